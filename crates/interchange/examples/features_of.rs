//! Computes the features of images with the encoder of any file, and the tokens of a vision
//! transformer. interop/check.py compares them with those of timm, torchvision and transformers.
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
    let (batches, _) = io::load(Path::new(images))?;
    let mut found = Vec::new();
    for (name, images) in &batches {
        let features = no_grad(|| encoder.forward(images, false));
        found.push((format!("{name}.features"), features));
        if let Some(vit) = encoder.as_vit() {
            found.push((format!("{name}.tokens"), no_grad(|| vit.tokens(images, None, false))?));
        }
    }
    Ok(io::save(Path::new(out), &found, &BTreeMap::new())?)
}
