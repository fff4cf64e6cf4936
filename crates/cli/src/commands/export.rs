//! `portolan export`: writes the encoder of a run for use in other programs.

use anyhow::Result;
use portolan_interchange::{Layout, exported};
use std::process::ExitCode;

use crate::args::{ExportArgs, ExportFormat};
use crate::encoder_source::run_encoder;
use crate::output::hub;

/// Writes the encoder with the names of torchvision and timm, of DINOv2's code or of transformers,
/// to a file or to a folder in the layout of model hubs.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode> {
    let config = run_encoder::config_of(&args.run)?;
    let encoder = run_encoder::load(&args.run, &config, portolan_tensor::Device::Cpu)?;
    let is_file = args.out.extension().is_some_and(|ending| ending == "safetensors");
    let layout = match args.format {
        None | Some(ExportFormat::Timm) => Layout::Timm,
        Some(ExportFormat::Dinov2) => Layout::Dinov2,
        Some(ExportFormat::Transformers) => Layout::Transformers,
    };
    if is_file && args.format.is_none() {
        run_encoder::write(&*encoder, &config, &args.out)?;
    } else {
        let preprocessing = run_encoder::preprocessing(&config)?;
        let written = exported(layout, &*encoder, &config.encoder, &preprocessing)?;
        if is_file {
            hub::write_tensors(&written, &args.out)?;
        } else {
            hub::write(&*encoder, &config, layout, &written, (&args.run, &args.out))?;
        }
        for note in &written.notes {
            eprintln!("note     {note}");
        }
    }
    println!("{} ({} features): {}", config.encoder.name(), encoder.width(), args.out.display());
    Ok(ExitCode::SUCCESS)
}
