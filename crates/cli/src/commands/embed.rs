//! `portolan embed`: writes the features of every image, or of every passage of a text, to a file.

use anyhow::{Result, bail, ensure};
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_evaluate::{embed_patches, features};
use portolan_report::counted;
use portolan_sequences::features as text_features;
use portolan_tensor::{Device, device};
use std::process::ExitCode;

use crate::args::EmbedArgs;
use crate::data::{print_notes, split_of, warn_about_items, warn_about_skipped};
use crate::encoder_source::EncoderSource;
use crate::output::embeddings;
use crate::run::setup::set_up;
use crate::text::{Model, is_text};

/// Writes the features of every image to a file.
pub(crate) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    let form = embeddings::Form::of(&args.out)?;
    if args.patches {
        form.check_patches()?;
    }
    if is_text(&args.encoder.of) {
        return passages(args, form);
    }
    let device = device::choose(&args.device.name)?;
    let trained = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let data = trained.data(args.data.as_ref())?;
    print_notes(&data.notes);
    let source = split_of(&data, &args.split)?;
    let encoder = trained.build(&trained.config, device)?;
    if args.patches {
        patches(args, form, &trained, &*encoder, &*source, device)?;
        return Ok(ExitCode::SUCCESS);
    }
    let features = features(&*encoder, &*source, &trained.eval_view(), device, trained.precision)?;
    let images = embeddings::Items::of(&*source, &features.ids);
    form.write(&args.out, &features.x, &images)?;
    let [n, width] = features.x.size()[..] else { bail!("the features are not a matrix") };
    println!(
        "{}, {width} features each: {}",
        counted(n as usize, "image", "images"),
        args.out.display()
    );
    warn_about_skipped(&features);
    Ok(ExitCode::SUCCESS)
}

/// Writes the features of every passage of a text to a file, under the name of its document.
fn passages(args: &EmbedArgs, form: embeddings::Form) -> Result<ExitCode> {
    ensure!(!args.patches, "--patches is for images; text has a vector for each passage");
    ensure!(args.split == "train", "--split is for images; all of a text is embedded");
    let device = set_up(&args.device.name, args.threads.count)?.device;
    let model = Model::open(&args.encoder.of, device)?;
    let corpus = model.corpus(args.data.as_deref())?;
    let pieces = model.cut().apply(&corpus.documents, model.tokens())?;
    print_notes(&pieces.notes(&corpus, model.cut()));
    ensure!(!pieces.sequences.is_empty(), "{} is too short for a passage", corpus.name);
    let x = text_features(model.method().encoder(), &pieces.sequences, device)?;
    let names = pieces.documents.iter().map(|&i| corpus.documents[i].title.clone()).collect();
    form.write(&args.out, &x, &embeddings::Items::named(names))?;
    println!(
        "{} of {}, {} features each: {}",
        counted(pieces.documents.len(), "passage", "passages"),
        counted(corpus.documents.len(), "document", "documents"),
        x.size()[1],
        args.out.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes the features of every patch of every image to a file.
fn patches(
    args: &EmbedArgs,
    form: embeddings::Form,
    trained: &EncoderSource,
    encoder: &dyn Encoder,
    source: &dyn Source,
    device: Device,
) -> Result<()> {
    let found = embed_patches(encoder, source, &trained.eval_view(), device, trained.precision)?;
    form.write_patches(&args.out, &found, &embeddings::Items::of(source, &found.ids))?;
    let (n, count, width) = found.x.size3()?;
    println!(
        "{}, {count} patches each ({} rows of {}), {width} features per patch: {}",
        counted(n as usize, "image", "images"),
        found.rows,
        found.columns,
        args.out.display()
    );
    warn_about_items(&found.skipped);
    Ok(())
}
