//! `portolan patches`: draws the patch features of a vision transformer as colors next to the
//! images.

use anyhow::Result;
use portolan_encoders::Encoder;
use portolan_evaluate::patch_colors;
use portolan_tensor::{Tensor, device, no_grad};
use std::process::ExitCode;

use crate::args::PatchesArgs;
use crate::encoder_source::run_encoder;
use crate::output::image_files::{create_folder, enlarged, read, save, sheet, to_image, view_of};

/// Draws patch features by the principal components of all given images together.
pub(crate) fn patches(args: &PatchesArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let config = run_encoder::config_of(&args.run)?;
    let vit = run_encoder::load_vit(&args.run, &config, device)?;
    let inputs = read(&args.images, &view_of(&config)?, device)?;
    create_folder(&args.out)?;
    let maps: Vec<Tensor> = inputs
        .iter()
        .map(|input| no_grad(|| vit.feature_map(&input.x, /* train */ false)))
        .collect();
    let colors = patch_colors(&Tensor::cat(&maps, 0))?;
    for (i, input) in inputs.iter().enumerate() {
        let colors = enlarged(&to_image(&colors.get(i as i64))?, input.image.width());
        let path = args.out.join(format!("{}-patches.png", input.name));
        save(&sheet(&[vec![input.image.clone(), colors]]), &path)?;
    }
    Ok(ExitCode::SUCCESS)
}
