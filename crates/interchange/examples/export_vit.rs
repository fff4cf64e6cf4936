//! Writes a vision transformer with random weights in a layout of another library, and its tokens
//! for images of its size and of another size and aspect. interop/check.py compares them.
//!
//! ```text
//! cargo run -p portolan-interchange --example export_vit -- \
//!     vit_w128d2h2_patch4_reg2_dinov2_20 transformers folder/
//! ```

use anyhow::{Context, Result, bail};
use portolan_encoders::{Encoder, EncoderConfig, Mlp, PositionScaling, Vit, VitConfig};
use portolan_interchange::{Layout, Preprocessing, exported};
use portolan_tensor::{Device, Kind, Tensor, Vars, io, no_grad, seed};
use std::collections::BTreeMap;
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, layout, folder] = &args[..] else { bail!("name an encoder, a layout, a folder") };
    let folder = Path::new(folder);
    std::fs::create_dir_all(folder)?;
    let gated = name.ends_with("+swiglu");
    let mut config = VitConfig::named(name.trim_end_matches("+swiglu"))?;
    config.mask_token = true;
    if gated {
        config.mlp = Mlp::SwiGlu;
    }
    let layout = match layout.as_str() {
        "timm" => Layout::Timm,
        "dinov2" => Layout::Dinov2,
        "transformers" => Layout::Transformers,
        _ => bail!("a layout is timm, dinov2 or transformers"),
    };
    // What DINOv2's method trains has a place of the class token beside registers.
    config.class_position |= config.registers > 0 && !name.contains("dinov3");
    config.position_scaling = match layout {
        Layout::Transformers if config.registers == 0 => PositionScaling::Size,
        Layout::Dinov2 if config.registers == 0 => PositionScaling::ScaleFactor,
        _ => PositionScaling::Antialias,
    };
    seed(1);
    let vit = Vit::new(&config, &Vars::new(Device::Cpu))?;
    // Other values than the first, of which many are zero, one or all but zero.
    for (_, tensor) in vit.vars().state() {
        no_grad(|| tensor.shallow_clone().copy_(&(&tensor + tensor.randn_like() * 0.1)));
    }
    let (size, patch) = (config.image, config.patch);
    let mut check = Vec::new();
    for (name, [height, width]) in
        [("images", [size, size]), ("wide", [size - patch, size + 3 * patch])]
    {
        let images = Tensor::randn([2, 3, height, width], (Kind::Float, Device::Cpu));
        let tokens = no_grad(|| vit.tokens(&images, None, false))?;
        check.push((format!("{name}.features"), no_grad(|| vit.pool(&tokens))));
        check.push((format!("{name}.tokens"), tokens));
        check.push((name.to_owned(), images));
    }
    let side = u32::try_from(size).context("an image has a side of some pixels")?;
    let preprocessing = Preprocessing { resize: side, ..Preprocessing::imagenet(side) };
    let encoder = EncoderConfig::Vit(config);
    let written = exported(layout, &vit, &encoder, &preprocessing)?;
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    io::save(&folder.join("model.safetensors"), &written.tensors, &metadata)?;
    io::save(&folder.join("check.safetensors"), &check, &metadata)?;
    for (name, contents) in written.files {
        std::fs::write(folder.join(name), serde_json::to_string_pretty(&contents)?)?;
    }
    Ok(())
}
