//! `portolan reconstruct`: draws or scores how MAE reconstructs hidden patches.

use anyhow::{Context, Result, ensure};
use portolan_data::Dataset;
use portolan_evaluate::images;
use portolan_mae::{Mae, Reconstruction};
use portolan_method::StepContext;
use portolan_tensor::{Device, Tensor, device, no_grad, upload};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::DrawArgs;
use crate::config::RunConfig;
use crate::data::open_data;
use crate::data::split_of;
use crate::encoder_source::run_encoder;
use crate::output::image_files::{create_folder, read, save, sheet, to_image, view_of};

/// Images per forward pass when scoring.
const BATCH: usize = 100;

/// Draws reconstructions of images, or with --score prints the error on the test images of the run.
pub(crate) fn reconstruct(args: &DrawArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let config = run_encoder::config_of(&args.run)?;
    let mae = load(&args.run, &config, device)?;
    match &args.out {
        Some(out) => draw_images(&mae, &config, &args.images, out, device)?,
        None => score(&mae, &config, &open_data(&config.data)?, device)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Loads MAE with its decoder, which only the checkpoints of a run contain.
fn load(run: &Path, config: &RunConfig, device: Device) -> Result<Mae> {
    ensure!(
        config.method == "mae",
        "{} is a run of {}, but only MAE reconstructs hidden patches; give a run of `portolan \
         pretrain mae`",
        run.display(),
        config.method
    );
    let settings = config.settings.clone().try_into().context("in MAE's settings")?;
    let mae = Mae::new(settings, &config.encoder, config.each_view(), device)?;
    run_encoder::load_checkpoint(run, config, &mae, device)
        .context("the decoder is only in the checkpoints of a run")?;
    Ok(mae)
}

/// The step context of the `draw`-th mask.
fn draw(draw: usize, config: &RunConfig, device: Device) -> StepContext<'static> {
    StepContext::new(draw as u64, 1, device).with_seed(config.seed)
}

fn draw_images(
    mae: &Mae,
    config: &RunConfig,
    paths: &[PathBuf],
    out: &Path,
    device: Device,
) -> Result<()> {
    let view = view_of(config)?;
    let (mean, std) = view.normalization().context("the view has no normalization")?;
    let inputs = read(paths, &view, device)?;
    create_folder(out)?;
    let column = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1]);
    let drawn =
        |x: &Tensor| to_image(&(x.get(0).to_device(Device::Cpu) * column(std) + column(mean)));
    for (i, input) in inputs.iter().enumerate() {
        let Reconstruction { masked, painted, pasted } =
            mae.reconstruct(&input.x, &draw(i, config, device))?;
        let row = vec![input.image.clone(), drawn(&masked)?, drawn(&painted)?, drawn(&pasted)?];
        save(&sheet(&[row]), &out.join(format!("{}-reconstruction.png", input.name)))?;
    }
    println!("  the image; the visible patches; the reconstruction; both combined");
    Ok(())
}

/// Prints the error on the test images, and that of filling in the mean of the visible patches.
fn score(mae: &Mae, config: &RunConfig, data: &Dataset, device: Device) -> Result<()> {
    let test = split_of(data, "test")?;
    let view = view_of(config)?;
    let indices: Vec<usize> = (0..test.len()).collect();
    let (mut painted, mut filled, mut count) = (0.0, 0.0, 0.0);
    for (i, part) in indices.chunks(BATCH).enumerate() {
        let read = images(&*test, part, &view)?;
        let n = read.ids.len() as f64;
        if n == 0.0 {
            continue;
        }
        let x = upload(&read.x, device);
        let cx = draw(i, config, device);
        let errors = no_grad(|| mae.paint(&x, &cx, /* train */ false)?.errors())?;
        painted += n * errors.painted.double_value(&[]);
        filled += n * errors.filled.double_value(&[]);
        count += n;
    }
    ensure!(count > 0.0, "none of the test images of {} can be read", data.name);
    let space = if mae.config().normalize_patches {
        "patch values, each patch normalized by its own mean and standard deviation"
    } else {
        "pixels, normalized by the mean and standard deviation of the data set"
    };
    println!("mean squared error on the hidden patches of {count} test images of {}", data.name);
    println!("in {space}\n");
    println!("MAE                          {:.4}", painted / count);
    println!("mean of the visible patches  {:.4}", filled / count);
    println!("ratio                        {:.3}", painted / filled);
    Ok(())
}
