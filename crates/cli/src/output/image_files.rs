//! Reading input images and writing image grids, shared by `attention`, `reconstruct` and
//! `patches`.

use anyhow::{Context, Result, ensure};
use image::imageops::{FilterType, replace, resize};
use image::{ImageFormat, Rgb, RgbImage};
use portolan_augment::{ViewSpec, cpu, ops};
use portolan_random::{Purpose, stream};
use portolan_tensor::{Device, Kind, Tensor, io, upload};
use std::collections::BTreeSet;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::config::RunConfig;
use crate::encoder_source;
use crate::encoder_source::run_encoder::preprocessing;

/// Images are enlarged by an integer factor to at least this many pixels per side.
const SIDE: u32 = 192;
/// Pixels between images.
const GAP: u32 = 6;

/// An input image after the preprocessing of a run.
pub(crate) struct InputImage {
    /// The file name without extension, with a number if several files have this name.
    pub(crate) name: String,
    /// Resized and cropped, before normalization.
    pub(crate) image: RgbImage,
    /// Normalized, `[1, 3, size, size]`, on the device.
    pub(crate) x: Tensor,
}

/// The view for evaluation, normalized for the data of the run.
///
/// # Errors
/// If the views of the run have no normalization.
pub(crate) fn view_of(config: &RunConfig) -> Result<ViewSpec> {
    Ok(encoder_source::view_of(&preprocessing(config)?))
}

/// Reads and preprocesses images.
///
/// # Errors
/// If a file cannot be decoded. The message names it.
pub(crate) fn read(paths: &[PathBuf], view: &ViewSpec, device: Device) -> Result<Vec<InputImage>> {
    let mut names = BTreeSet::new();
    let read_one = |path: &PathBuf| {
        let bytes = std::fs::read(path)
            .with_context(|| format!("cannot read the image {}", path.display()))?;
        let image = portolan_data::decode(&bytes)
            .with_context(|| format!("cannot draw {}", path.display()))?;
        // The view for evaluation uses no random numbers.
        let random = || stream(0, Purpose::View, &[]);
        let size = view.size() as usize;
        let mut planes = vec![0f32; 3 * size * size];
        cpu::view(view, &image, &mut random(), &mut planes);
        let x = Tensor::from_slice(&planes).view([1, 3, size as i64, size as i64]);
        Ok(InputImage {
            name: unused_name(path, &mut names),
            image: cpu::preview(view, &image, &mut random()),
            x: upload(&x, device),
        })
    };
    paths.iter().map(read_one).collect()
}

fn unused_name(path: &Path, names: &mut BTreeSet<String>) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2..).map(|n| format!("{stem}-{n}"));
    let name = std::iter::once(stem.clone()).chain(numbered).find(|name| !names.contains(name));
    let name = name.unwrap_or(stem);
    names.insert(name.clone());
    name
}

/// Converts a tensor of shape `[3, height, width]` on any device to an image. Values are clamped to
/// the range from 0 to 1.
pub(crate) fn to_image(x: &Tensor) -> Result<RgbImage> {
    let x: Tensor = x.to_device(Device::Cpu).to_kind(Kind::Float) * 255.0;
    let x = x.contiguous();
    let width = x.size()[2] as usize;
    Ok(ops::to_image(&Vec::<f32>::try_from(x.view([-1]))?, width))
}

/// Enlarges an image to `side` × `side` pixels without interpolation.
pub(crate) fn enlarged(image: &RgbImage, side: u32) -> RgbImage {
    resize(image, side, side, FilterType::Nearest)
}

/// Arranges images of one size in rows on a white background, enlarged if they are small.
pub(crate) fn sheet(rows: &[Vec<RgbImage>]) -> RgbImage {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let size = rows.iter().flatten().next().map_or(1, RgbImage::width);
    let side = size * SIDE.div_ceil(size);
    let along = |n: u32| (n * (side + GAP)).saturating_sub(GAP).max(1);
    let white = Rgb([255; 3]);
    let mut sheet = RgbImage::from_pixel(along(columns), along(rows.len() as u32), white);
    for (y, row) in rows.iter().enumerate() {
        for (x, image) in row.iter().enumerate() {
            let at = |n: usize| i64::from(side + GAP) * n as i64;
            replace(&mut sheet, &enlarged(image, side), at(x), at(y));
        }
    }
    sheet
}

/// Creates the folder for the images.
///
/// # Errors
/// If the path is a file or cannot be written to.
pub(crate) fn create_folder(folder: &Path) -> Result<()> {
    ensure!(!folder.is_file(), "{} is a file; choose a folder for --out", folder.display());
    std::fs::create_dir_all(folder).with_context(|| {
        format!("cannot create the folder {}; choose another --out", folder.display())
    })
}

/// Writes an image as PNG atomically and prints its path.
///
/// # Errors
/// If the folder cannot be written to.
pub(crate) fn save(image: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Png)?;
    io::write_atomic(path, bytes.get_ref())?;
    println!("{}", path.display());
    Ok(())
}
