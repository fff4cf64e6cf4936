//! Writes an encoder with random weights in timm's hub layout, and its features of random images.
//! interop/check.py compares them with those of timm and torchvision.
//!
//! `cargo run -p portolan-interchange --example hub_folder -- resnet18 imagenet folder/`

use anyhow::{Context, Result, bail};
use portolan_encoders::{EncoderConfig, Stem, build};
use portolan_interchange::{Preprocessing, hub_config};
use portolan_tensor::{Device, Kind, Tensor, Vars, io, no_grad, seed};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, stem, folder] = &args[..] else { bail!("name an encoder, a stem and a folder") };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let mut config = EncoderConfig::named(name)?;
    let size = match &mut config {
        EncoderConfig::Vit(vit) => vit.image,
        EncoderConfig::ConvNext(convnext) => {
            convnext.patch = stem.parse().context("a ConvNeXt's stem is the side of its patch")?;
            if convnext.patch == 4 { 224 } else { 32 }
        }
        EncoderConfig::Resnet(resnet) => {
            resnet.stem = match stem.as_str() {
                "imagenet" => Stem::Imagenet,
                "cifar" => Stem::Cifar,
                "cifar_strided" => Stem::CifarStrided,
                _ => bail!("a stem is imagenet, cifar or cifar_strided"),
            };
            if resnet.stem == Stem::Imagenet { 224 } else { 32 }
        }
    };
    seed(1);
    let encoder = build(&config, &Vars::new(Device::Cpu))?;
    let images = Tensor::randn([4, 3, size, size], (Kind::Float, Device::Cpu));
    // Running statistics other than zero and one, so that a mix-up would show.
    encoder.recalibrate(&mut std::iter::once(&images * 1.5 + 0.3));
    let features = no_grad(|| encoder.forward(&images, false));
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    io::save(&folder.join("model.safetensors"), &encoder.vars().state(), &metadata)?;
    let check = [("images".to_owned(), images), ("features".to_owned(), features)];
    io::save(&folder.join("check.safetensors"), &check, &metadata)?;
    let size = u32::try_from(size).context("a view has a side of some pixels")?;
    let preprocessing = Preprocessing { resize: size, ..Preprocessing::imagenet(size) };
    let config = hub_config(&config, encoder.width(), &preprocessing);
    std::fs::write(folder.join("config.json"), serde_json::to_string_pretty(&config)?)?;
    Ok(())
}
