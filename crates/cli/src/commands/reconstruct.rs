//! `portolan reconstruct`: what MAE paints in the place of hidden patches, shown or scored.

use anyhow::{Context, Result, ensure};
use portolan_data::Dataset;
use portolan_evaluate::images;
use portolan_mae::{Mae, Reconstruction};
use portolan_method::StepContext;
use portolan_tensor::{Device, Tensor, device, no_grad, upload};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::args::PicturesArgs;
use crate::config::RunConfig;
use crate::data::open_data;
use crate::data::split_of;
use crate::encoder_source::run_encoder;
use crate::output::image_files::{make_folder, read, save, sheet, to_picture, view_of};

/// Images of one forward pass when scoring.
const BATCH: usize = 100;

/// `portolan reconstruct`: photographs painted, or with --score the error on the run's test images.
pub(crate) fn reconstruct(args: &PicturesArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let config = run_encoder::config_of(&args.run)?;
    let mae = load(&args.run, &config, device)?;
    match &args.out {
        Some(out) => show(&mae, &config, &args.images, out, device)?,
        None => score(&mae, &config, &open_data(&config.data)?, device)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// MAE with its decoder, which only the run's checkpoints hold.
fn load(run: &Path, config: &RunConfig, device: Device) -> Result<Mae> {
    ensure!(
        config.method == "mae",
        "{} is a run of {}, and only MAE paints hidden patches; give a run of `portolan pretrain mae`",
        run.display(),
        config.method
    );
    let settings = config.settings.clone().try_into().context("in MAE's settings")?;
    let mae = Mae::new(settings, &config.encoder, config.each_view(), device)?;
    run_encoder::load_checkpoint(run, config, &mae, device)
        .context("the decoder is in a run's checkpoints alone")?;
    Ok(mae)
}

/// The `draw`-th draw of masks.
fn draw(draw: usize, config: &RunConfig, device: Device) -> StepContext<'static> {
    StepContext::new(draw as u64, 1, device).with_seed(config.seed)
}

fn show(
    mae: &Mae,
    config: &RunConfig,
    paths: &[PathBuf],
    out: &Path,
    device: Device,
) -> Result<()> {
    let view = view_of(config)?;
    let (mean, std) = view.normalization().context("the view has no normalization")?;
    let shown = read(paths, &view, device)?;
    make_folder(out)?;
    let column = |values: [f32; 3]| Tensor::from_slice(&values).view([3, 1, 1]);
    let picture =
        |x: &Tensor| to_picture(&(x.get(0).to_device(Device::Cpu) * column(std) + column(mean)));
    for (i, one) in shown.iter().enumerate() {
        let Reconstruction { masked, painted, pasted } =
            mae.reconstruct(&one.x, &draw(i, config, device))?;
        let row = vec![one.image.clone(), picture(&masked)?, picture(&painted)?, picture(&pasted)?];
        save(&sheet(&[row]), &out.join(format!("{}-reconstruction.png", one.name)))?;
    }
    println!("  the image; what the encoder saw; what MAE painted; that around what it saw");
    Ok(())
}

/// Says the error on held-out images beside that of filling with the visible patches' mean.
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
        "numbers of patches, each normalized by its own mean and deviation"
    } else {
        "pixels, normalized by the data set's mean and deviation"
    };
    println!("mean squared error on the hidden patches of {count} test images of {}", data.name);
    println!("in {space}\n");
    println!("MAE                          {:.4}", painted / count);
    println!("mean of the visible patches  {:.4}", filled / count);
    println!("ratio                        {:.3}", painted / filled);
    Ok(())
}
