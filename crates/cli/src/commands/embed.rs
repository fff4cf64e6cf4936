//! `portolan embed`: writes the features of every image to a file.

use anyhow::{Result, bail};
use portolan_data::Source;
use portolan_encoders::Encoder;
use portolan_evaluate::{embed_patches, features};
use portolan_report::counted;
use portolan_tensor::{Device, device};
use std::process::ExitCode;

use crate::args::EmbedArgs;
use crate::data::{print_notes, split_of, warn_about_items, warn_about_skipped};
use crate::encoder_source::EncoderSource;
use crate::output::embeddings;

/// Writes the features of every image to a file.
pub(crate) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    let form = embeddings::Form::of(&args.out)?;
    if args.patches {
        form.check_patches()?;
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
    let images = embeddings::Images::of(&*source, &features.ids);
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
    form.write_patches(&args.out, &found, &embeddings::Images::of(source, &found.ids))?;
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
