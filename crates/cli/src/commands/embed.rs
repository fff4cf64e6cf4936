//! `portolan embed`: writes the features of every image to a file.

use anyhow::{Result, bail};
use portolan_evaluate::features;
use portolan_report::counted;
use portolan_tensor::device;
use std::process::ExitCode;

use crate::args::EmbedArgs;
use crate::data::{print_notes, split_of, warn_about_skipped};
use crate::encoder_source::EncoderSource;
use crate::output::embeddings;

/// Writes the features of every image to a file.
pub(crate) fn embed(args: &EmbedArgs) -> Result<ExitCode> {
    let form = embeddings::Form::of(&args.out)?;
    let device = device::choose(&args.device.name)?;
    let trained = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let data = trained.data(args.data.as_ref())?;
    print_notes(&data.notes);
    let source = split_of(&data, &args.split)?;
    let encoder = trained.build(&trained.config, device)?;
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
