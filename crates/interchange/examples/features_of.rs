//! Computes the features of images with the encoder of any file. interop/check.py compares them
//! with those of timm and torchvision.
//!
//! ```text
//! cargo run -p portolan-interchange --example features_of -- \
//!     checkpoint.pth images.safetensors features.safetensors
//! ```

use anyhow::{Result, bail};
use portolan_interchange::LoadedEncoder;
use portolan_tensor::{Device, io, no_grad};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [file, images, out] = &args[..] else { bail!("name a file, images and where features go") };
    let loaded = LoadedEncoder::open(Path::new(file), None)?;
    let encoder = loaded.build(&loaded.config, Device::Cpu)?;
    let (images, _) = io::load(Path::new(images))?;
    let features = no_grad(|| encoder.forward(&images["images"], false));
    Ok(io::save(Path::new(out), &[("features".to_owned(), features)], &BTreeMap::new())?)
}
