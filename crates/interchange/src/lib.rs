//! Encoders to and from the files of other tools: timm's hub folders, torchvision's and timm's safetensors, and the checkpoints
//! that the authors of MoCo, Barlow Twins, VICReg, DINO, DINOv2 and MAE publish.
//!
//! ```
//! use portolan_encoders::{EncoderConfig, build};
//! use portolan_interchange::{Found, Shown, write};
//! use portolan_tensor::{Device, Vars};
//!
//! let folder = std::env::temp_dir().join(format!("portolan-interchange-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let file = folder.join("encoder.safetensors");
//! let config = EncoderConfig::named("resnet18-w4")?;
//! let encoder = build(&config, &Vars::new(Device::Cpu))?;
//! write(&file, &*encoder, &config, &Shown::imagenet(224), "simclr")?;
//!
//! let found = Found::open(&file, None)?; // or a .pth file, or a folder with config.json
//! let again = found.build(&config, Device::Cpu)?;
//! assert_eq!(again.width(), encoder.width());
//! # std::fs::remove_dir_all(folder)?;
//! # anyhow::Ok(())
//! ```
//!
//! A file is recognized by what is in it (names and shapes of weights), not by whose it is: the authors' files differ in what surrounds the encoder
//! alone, and so do those of many others. What is taken and what is left out is told ([`Found::taken`], [`Found::left_out`]); a
//! tensor that would change what the encoder computes is never left out.

mod hub;
mod names;
mod own;
mod pickle;
mod pth;
mod shape;

pub use hub::{built_by, hub_config};
pub use own::{Shown, write};

use anyhow::{Context, Result, ensure};
use names::Shapes;
use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, io};
use std::collections::BTreeMap;
use std::path::Path;

/// An encoder that was found in a file.
pub struct Found {
    /// What it is.
    pub encoder: EncoderConfig,
    /// How an image is shown to it.
    pub shown: Shown,
    /// Its weights (on the CPU) by torchvision's or timm's names.
    pub tensors: BTreeMap<String, Tensor>,
    /// What precedes its names in the file; empty where nothing does.
    pub taken: String,
    /// What else the file holds: parts and their numbers of tensors.
    pub left_out: Vec<(String, usize)>,
    /// What was assumed or changed, a sentence each.
    pub notes: Vec<String>,
}

impl Found {
    /// The encoder in a safetensors file, a file of `torch.save`, or a hub folder. `named` says what the weights do not, such
    /// as a transformer's number of heads.
    ///
    /// # Errors
    /// When nothing can be read there, it holds no encoder that is known here, or it is another than `named`.
    pub fn open(path: &Path, named: Option<&EncoderConfig>) -> Result<Self> {
        let found = match path {
            folder if folder.is_dir() => hub::open(folder, named)?,
            file => open_file(file, named)?,
        };
        // Whatever does not fit shows here, before anything is computed with it.
        let encoder = found.encoder.clone();
        found.enough().with_context(|| format!("{} cannot be used", path.display()))?;
        found
            .build(&encoder, Device::Cpu)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        Ok(found)
    }

    /// Whether there are numbers for such an encoder: one that a file only names could take all memory to build.
    fn enough(&self) -> Result<()> {
        self.encoder.validate()?;
        let numbers: usize = self.tensors.values().map(Tensor::numel).sum();
        let least = shape::least_numbers(&self.encoder);
        ensure!(
            numbers as i64 >= least,
            "{} has {least} numbers at the least, and these are {numbers}",
            self.encoder.name()
        );
        Ok(())
    }

    /// The encoder as a network on `device`; `config` is [`Found::encoder`], or that with other settings of training.
    ///
    /// # Errors
    /// When the weights do not fit `config`.
    pub fn build(&self, config: &EncoderConfig, device: Device) -> Result<Box<dyn Encoder>> {
        let encoder = build(config, &Vars::new(device))?;
        self.copy_into(&encoder.vars().state(), config)?;
        Ok(encoder)
    }

    /// Copies the weights into an encoder's tensors.
    ///
    /// # Errors
    /// When the names or shapes are others.
    pub fn copy_into(&self, state: &[(String, Tensor)], config: &EncoderConfig) -> Result<()> {
        io::copy_into(state, &self.tensors).with_context(|| {
            match (self.encoder.name(), config.name()) {
                (own, wanted) if own == wanted => {
                    format!("its weights are not those of a {own}, which they resemble most")
                }
                (own, wanted) => {
                    format!("its weights are those of {own}, which do not fit {wanted}")
                }
            }
        })
    }
}

/// The most numbers of an encoder: views of a storage may repeat what is there, and ask for memory without bound.
const NUMBERS: i64 = 1 << 31;

fn open_file(path: &Path, named: Option<&EncoderConfig>) -> Result<Found> {
    ensure!(
        path.exists(),
        "there is no {}; give an encoder's file, a hub folder or a run's folder",
        path.display()
    );
    let is_safetensors = path.extension().is_some_and(|ending| ending == "safetensors");
    let found = if is_safetensors {
        let (tensors, metadata) = io::load(path)?;
        match own::described(&metadata) {
            Some(described) => described.and_then(|it| own::found(it, tensors, named)),
            None => of_tensors(&tensors, named).map(normalized_as_usual),
        }
    } else {
        let mut file = pth::Pth::open(path)?;
        let shapes = file.shapes();
        found(&shapes, named, |name| file.tensor(name)).map(normalized_as_usual)
    };
    found.with_context(|| format!("{} cannot be used", path.display()))
}

/// Says what weights do not: how images were shown to them.
fn normalized_as_usual(mut found: Found) -> Found {
    let size = found.shown.size;
    found.notes.push(format!(
        "weights do not tell how images were shown to them: {size} pixels and ImageNet's mean and deviation are assumed"
    ));
    found
}

/// The encoder among these tensors, whatever surrounds it.
fn of_tensors(tensors: &BTreeMap<String, Tensor>, named: Option<&EncoderConfig>) -> Result<Found> {
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    found(&shapes, named, |name| Ok(tensors[name].shallow_clone()))
}

/// The encoder among tensors of these shapes, of which `read` gets the numbers.
fn found(
    shapes: &Shapes,
    named: Option<&EncoderConfig>,
    mut read: impl FnMut(&str) -> Result<Tensor>,
) -> Result<Found> {
    let chosen = names::choose(shapes)?;
    let renamed: Shapes =
        chosen.names.iter().map(|(ours, theirs)| (ours.clone(), shapes[theirs].clone())).collect();
    let numbers = |shape: &Vec<i64>| shape.iter().try_fold(1i64, |n, size| n.checked_mul(*size));
    let all = renamed.values().try_fold(0i64, |sum, shape| sum.checked_add(numbers(shape)?));
    ensure!(
        all.is_some_and(|all| all <= NUMBERS),
        "its tensors would have more than {NUMBERS} numbers, which no encoder here has"
    );
    let mut encoder = shape::recognize(&renamed)?;
    let mut tensors = BTreeMap::new();
    for (ours, theirs) in &chosen.names {
        let tensor = read(theirs)?;
        let counter = ours.ends_with("num_batches_tracked");
        tensors
            .insert(ours.clone(), tensor.to_kind(if counter { Kind::Int64 } else { Kind::Float }));
    }
    let mut notes = Vec::new();
    if fold_scales(&mut tensors)? {
        notes.push(
            "the blocks' scales (LayerScale) were multiplied into the matrices before them"
                .to_owned(),
        );
    }
    count_batches(&mut tensors);
    notes.extend(assume(&mut encoder, &chosen.prefix, named)?);
    encoder.validate()?;
    let shown = Shown::usual(&encoder);
    Ok(Found { encoder, shown, tensors, taken: chosen.prefix, left_out: chosen.left_out, notes })
}

/// DINOv2's blocks scale what attention and MLP add by a vector (Touvron et al. 2021, arXiv 2103.17239, section 2). The last
/// matrix before it can do that itself: γ(Wx + b) = (γW)x + γb.
fn fold_scales(tensors: &mut BTreeMap<String, Tensor>) -> Result<bool> {
    let scales: Vec<String> =
        tensors.keys().filter(|name| name.ends_with(".gamma")).cloned().collect();
    for name in &scales {
        let layer = match name.strip_suffix(".ls1.gamma") {
            Some(block) => format!("{block}.attn.proj"),
            None => format!(
                "{}.mlp.fc2",
                name.strip_suffix(".ls2.gamma").context("a scale without a place")?
            ),
        };
        let scale = tensors.remove(name).context("a scale that is gone")?;
        for (part, scale) in [("weight", scale.f_unsqueeze(-1)?), ("bias", scale.shallow_clone())] {
            let tensor = tensors
                .get_mut(&format!("{layer}.{part}"))
                .with_context(|| format!("there is no `{layer}.{part}` for `{name}` to scale"))?;
            *tensor = tensor.f_mul(&scale).with_context(|| format!("`{name}` does not fit"))?;
        }
    }
    Ok(!scales.is_empty())
}

/// Files from before PyTorch 0.4.1 do not count the batches that a batch norm has seen.
fn count_batches(tensors: &mut BTreeMap<String, Tensor>) {
    let norms: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix("running_mean").map(str::to_owned))
        .collect();
    for norm in norms {
        tensors.entry(format!("{norm}num_batches_tracked")).or_insert_with(|| Tensor::from(0i64));
    }
}

/// Settles what weights do not say: by `named` where it is given, as usual otherwise; and says so.
fn assume(
    encoder: &mut EncoderConfig,
    prefix: &str,
    named: Option<&EncoderConfig>,
) -> Result<Option<String>> {
    if let Some(named) = named {
        *encoder = named.clone();
        return Ok(None);
    }
    Ok(match encoder {
        EncoderConfig::Vit(vit) => {
            // MoCo v3's ViT-S has twice as many heads as the usual one (its vits.py).
            if prefix.contains("base_encoder") && vit.width == 384 {
                vit.heads = 12;
            }
            let heads = vit.heads;
            Some(format!("weights do not tell the number of heads: {heads} are assumed"))
        }
        EncoderConfig::Resnet(resnet) if resnet.stem == portolan_encoders::Stem::Cifar => {
            Some("weights do not tell the first convolution's stride: 1 is assumed".to_owned())
        }
        EncoderConfig::Resnet(_) => None,
    })
}
