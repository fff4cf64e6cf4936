//! `portolan dense`: attention, patch features, objects and a dense probe of a folder of images.

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use portolan_augment::cpu;
use portolan_data::{DenseDataset, Source, image_source};
use portolan_encoders::Encoder;
use portolan_evaluate::{
    DenseHeads, class_attention, dense_images, discover_objects, images, patch_colors,
    patch_features,
};
use portolan_random::{Purpose, stream};
use portolan_report::counted;
use portolan_tensor::{Device, Tensor, device, upload};
use std::process::ExitCode;
use std::sync::Arc;

use crate::args::DenseArgs;
use crate::data::print_notes;
use crate::encoder_source::EncoderSource;
use crate::output::image_files::{create_folder, enlarged, save, sheet, to_image};
use crate::output::overlays::{class_colors, depth_grays, glow, gray_images, outlined};
use crate::run::dense_probe::probe;

/// Draws attention, patch features and objects of images. If they have masks or depth maps, also
/// trains a linear layer on the patches, prints its scores and draws what it predicts.
pub(crate) fn dense(args: &DenseArgs) -> Result<ExitCode> {
    let device = device::choose(&args.device.name)?;
    let trained = EncoderSource::open(&args.encoder.of, args.encoder.name.as_deref())?;
    let size = i64::from(trained.preprocessing.size);
    trained.config.validate_size(size).context("in the evaluation")?;
    let encoder = trained.build(&trained.config, device)?;
    ensure!(!args.out.is_file(), "{} is a file; choose a folder for --out", args.out.display());
    let (source, probed) = match trained.dense_data(args.data.as_ref()) {
        Ok(data) => {
            print_notes(&data.notes);
            let heads = scored(&trained, &*encoder, &data, args.steps, device)?;
            (image_source(Arc::clone(&data.test)), Some((data, heads)))
        }
        // A folder without maps has no probe, but pictures.
        Err(why) => {
            let data = trained.data(args.data.as_ref())?;
            eprintln!("note     no dense probe: {why}");
            print_notes(&data.notes);
            (data.test.clone().unwrap_or_else(|| data.pretraining()), None)
        }
    };
    create_folder(&args.out)?;
    let sheets = Sheets { trained: &trained, encoder: &*encoder, device };
    sheets.draw(&*source, probed.as_ref(), args)?;
    Ok(ExitCode::SUCCESS)
}

/// Trains the probe and prints its scores.
fn scored(
    trained: &EncoderSource,
    encoder: &dyn Encoder,
    data: &DenseDataset,
    steps: u64,
    device: Device,
) -> Result<DenseHeads> {
    let found = probe(trained, encoder, data, steps, device, "trained")?;
    println!(
        "dense probe  {} for training, {} scored",
        counted(found.trained_on, "image", "images"),
        found.scored
    );
    if let Some(scores) = &found.segmentation {
        println!("segmentation  mean IoU {:.1} %", 100.0 * scores.mean_iou);
    }
    if let Some(scores) = &found.depth {
        println!(
            "depth         RMSE {:.3} m  AbsRel {:.3}  δ1 {:.1} %",
            scores.rmse,
            scores.abs_rel,
            100.0 * scores.delta1
        );
    }
    Ok(found.heads)
}

/// What the pictures are drawn with.
struct Sheets<'a> {
    trained: &'a EncoderSource,
    encoder: &'a dyn Encoder,
    device: Device,
}

/// The cells of the first images, by row of their sheets.
type Cells = Vec<[Vec<RgbImage>; 2]>;

impl Sheets<'_> {
    fn draw(
        &self,
        source: &dyn Source,
        probed: Option<&(DenseDataset, DenseHeads)>,
        args: &DenseArgs,
    ) -> Result<()> {
        let view = self.trained.eval_view();
        let first: Vec<usize> = (0..source.len().min(args.images)).collect();
        let read = images(source, &first, &view)?;
        read.skipped.iter().for_each(|why| eprintln!("skipped  {why}"));
        ensure!(!read.ids.is_empty(), "none of the images can be drawn");
        let mut cells = self.features(source, &read.ids, &read.x)?;
        if let Some((data, heads)) = probed {
            self.predictions(&mut cells, data, heads, &read.ids)?;
        }
        for (rows, &id) in cells.iter().zip(&read.ids) {
            let rows: Vec<Vec<RgbImage>> =
                rows.iter().filter(|row| !row.is_empty()).cloned().collect();
            let name = format!("{id}-{}-dense.png", file_name(&source.describe(id)));
            save(&sheet(&rows), &args.out.join(name))?;
        }
        let vit = self.encoder.as_vit().is_some();
        let upper = if vit { "; attention; the object found by LOST" } else { "" };
        println!("  top: the image; patch features as colors{upper}");
        if let Some((data, _)) = probed {
            let classes =
                if data.classes.is_empty() { "" } else { " classes, predicted and true;" };
            let depth = if data.has_depth { " depth, predicted and true" } else { "" };
            println!("  bottom:{classes}{depth}");
        }
        Ok(())
    }

    /// The upper row of each sheet.
    fn features(&self, source: &dyn Source, ids: &[usize], x: &Tensor) -> Result<Cells> {
        let view = self.trained.eval_view();
        let map = patch_features(self.encoder, x, self.device, self.trained.precision)?.map;
        let colors = patch_colors(&map)?;
        let mut cells = Vec::new();
        for (i, &id) in ids.iter().enumerate() {
            let image = source.image(id)?.decode()?;
            let image = cpu::preview(&view, &image, &mut stream(0, Purpose::View, &[]));
            let patches = enlarged(&to_image(&colors.get(i as i64))?, image.width());
            cells.push([vec![image, patches], Vec::new()]);
        }
        let Some(vit) = self.encoder.as_vit() else { return Ok(cells) };
        let x = upload(x, self.device);
        let attention = class_attention(vit, &x)?.mean_dim([1i64].as_slice(), false, None);
        let attention = &attention / attention.amax([-2i64, -1].as_slice(), true).clamp_min(1e-12);
        let objects = discover_objects(vit, &x)?;
        for ((row, light), object) in cells.iter_mut().zip(gray_images(&attention)?).zip(objects) {
            let area = object.area.scaled(vit.config().patch);
            let drawn = [glow(&row[0][0], &light), outlined(&row[0][0], &area)];
            row[0].extend(drawn);
        }
        Ok(cells)
    }

    /// The lower row of each sheet.
    fn predictions(
        &self,
        cells: &mut Cells,
        data: &DenseDataset,
        heads: &DenseHeads,
        ids: &[usize],
    ) -> Result<()> {
        let truth = dense_images(&*data.test, ids, &self.trained.eval_view())?;
        let predicted = heads.predict(self.encoder, &truth.x)?;
        for (i, cells) in cells.iter_mut().enumerate() {
            let i = i as i64;
            if let Some(classes) = &predicted.classes {
                cells[1].push(class_colors(&classes.get(i))?);
                cells[1].push(class_colors(&truth.labels().get(i))?);
            }
            if let Some(depth) = &predicted.depth {
                cells[1].extend(depth_grays(&depth.get(i), &truth.depth.get(i))?);
            }
        }
        Ok(())
    }
}

/// The last part of an image's place, without its extension and without spaces.
fn file_name(place: &str) -> String {
    let last = std::path::Path::new(place).file_stem().unwrap_or_default();
    last.to_string_lossy().replace(char::is_whitespace, "-")
}
