//! `portolan export`: writes the encoder of a run for use in other programs.

use anyhow::Result;
use std::process::ExitCode;

use crate::args::ExportArgs;
use crate::encoder_source::run_encoder;
use crate::output::hub;

/// Writes the encoder with the names of torchvision or timm, to a file or to a folder in the layout
/// of model hubs.
pub(crate) fn export(args: &ExportArgs) -> Result<ExitCode> {
    let config = run_encoder::config_of(&args.run)?;
    let encoder = run_encoder::load(&args.run, &config, portolan_tensor::Device::Cpu)?;
    if args.out.extension().is_some_and(|ending| ending == "safetensors") {
        run_encoder::write(&*encoder, &config, &args.out)?
    } else {
        hub::write(&*encoder, &config, &args.run, &args.out)?
    }
    println!("{} ({} features): {}", config.encoder.name(), encoder.width(), args.out.display());
    Ok(ExitCode::SUCCESS)
}
