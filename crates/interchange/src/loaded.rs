//! An encoder out of a file.

pub(crate) mod hub;
pub(crate) mod own;

use portolan_encoders::{Encoder, EncoderConfig, build};
use portolan_tensor::{Device, Kind, Tensor, Vars, io};
use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{OrDamaged, damaged, ensure};
use crate::format::Shapes;
use crate::names;
use crate::pth::Pth;
use crate::{Error, Preprocessing, Result, family};

/// The largest number of numbers of an encoder. Views of a storage may repeat its numbers, and ask
/// for unbounded memory.
const MAX_NUMBERS: i64 = 1 << 31;

/// An encoder that was found in a file.
#[derive(Debug)]
pub struct LoadedEncoder {
    /// Its settings.
    pub config: EncoderConfig,
    /// How images are prepared for it.
    pub preprocessing: Preprocessing,
    /// Its weights (on the CPU) by the names of torchvision or timm.
    pub tensors: BTreeMap<String, Tensor>,
    /// What precedes these names in the file, such as `state_dict.module.encoder_q.`; often empty.
    pub prefix: String,
    /// The parts of the file that were not used, and their numbers of tensors.
    pub left_out: Vec<(String, usize)>,
    /// What was assumed or changed, a sentence each.
    pub notes: Vec<String>,
}

impl LoadedEncoder {
    /// Reads the encoder in a safetensors file, a file of `torch.save`, or a hub folder. `named`
    /// tells what the weights do not, such as a transformer's number of heads.
    ///
    /// # Errors
    /// When nothing can be read there, it holds no encoder that is known here, or another than
    /// `named`.
    pub fn open(path: &Path, named: Option<&EncoderConfig>) -> Result<Self> {
        let loaded = if path.is_dir() { hub::open(path, named)? } else { open_file(path, named)? };
        // Find out here what does not fit, before anything is computed with it.
        let fits = loaded
            .validate_numel()
            .and_then(|()| loaded.build(&loaded.config, Device::Cpu).map(drop));
        fits.map_err(|error| error.of(path))?;
        Ok(loaded)
    }

    /// Checks that there are numbers for such an encoder, before building it: a file may name one
    /// that would take all memory.
    fn validate_numel(&self) -> Result<()> {
        self.config.validate()?;
        let numbers: usize = self.tensors.values().map(Tensor::numel).sum();
        let least = family::format(&self.config).min_numbers();
        ensure(numbers as i64 >= least, || {
            let name = self.config.name();
            damaged(format!("{name} has {least} numbers at the least, and these are {numbers}"))
        })
    }

    /// Builds the network on `device`. `config` is [`LoadedEncoder::config`], or that with other
    /// settings of training.
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
    /// When names or shapes differ.
    pub fn copy_into(&self, state: &[(String, Tensor)], config: &EncoderConfig) -> Result<()> {
        io::copy_into(state, &self.tensors).map_err(|error| {
            let (own, wanted) = (self.config.name(), config.name());
            let message = if own == wanted {
                format!("its weights are not those of a {own}, which they resemble most")
            } else {
                format!("its weights are those of {own}, which do not fit {wanted}")
            };
            Error::WrongEncoder { message, source: Some(error.into()) }
        })
    }
}

fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "safetensors")
}

fn open_file(path: &Path, named: Option<&EncoderConfig>) -> Result<LoadedEncoder> {
    ensure(path.exists(), || {
        Error::Missing(format!(
            "there is no {}; give an encoder's file, a hub folder or a run's folder",
            path.display()
        ))
    })?;
    let loaded = if is_safetensors(path) {
        let (tensors, metadata) = io::load(path)?;
        match own::description(&metadata) {
            Some(description) => description.and_then(|it| own::loaded(it, tensors, named)),
            None => from_tensors(&tensors, named).map(with_note_on_preprocessing),
        }
    } else {
        from_pth(&mut Pth::open(path)?, named).map(with_note_on_preprocessing)
    };
    loaded.map_err(|error| error.of(path))
}

fn with_note_on_preprocessing(mut loaded: LoadedEncoder) -> LoadedEncoder {
    loaded.notes.push(format!(
        "weights do not tell how images were shown to them: {} pixels and ImageNet's mean and \
         deviation are assumed",
        loaded.preprocessing.size
    ));
    loaded
}

/// The encoder in a file of weights, whatever surrounds it there.
pub(crate) fn from_weights(path: &Path, named: Option<&EncoderConfig>) -> Result<LoadedEncoder> {
    if is_safetensors(path) {
        from_tensors(&io::load(path)?.0, named)
    } else {
        from_pth(&mut Pth::open(path)?, named)
    }
}

fn from_tensors(
    tensors: &BTreeMap<String, Tensor>,
    named: Option<&EncoderConfig>,
) -> Result<LoadedEncoder> {
    let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
    find(&shapes, named, |name| Ok(tensors[name].shallow_clone()))
}

fn from_pth(file: &mut Pth, named: Option<&EncoderConfig>) -> Result<LoadedEncoder> {
    let shapes = file.shapes();
    find(&shapes, named, |name| file.tensor(name))
}

/// Finds the encoder among tensors of these shapes, and gets its numbers from `read`.
fn find(
    shapes: &Shapes,
    named: Option<&EncoderConfig>,
    mut read: impl FnMut(&str) -> Result<Tensor>,
) -> Result<LoadedEncoder> {
    let selected = names::select(shapes)?;
    let renamed: Shapes = selected
        .names
        .iter()
        .map(|(usual, in_file)| (usual.clone(), shapes[in_file].clone()))
        .collect();
    validate_total(&renamed)?;
    let recognized = family::recognize(&renamed)?;
    let mut tensors = BTreeMap::new();
    for (usual, in_file) in &selected.names {
        let kind = if usual.ends_with("num_batches_tracked") { Kind::Int64 } else { Kind::Float };
        tensors.insert(usual.clone(), read(in_file)?.to_kind(kind));
    }
    let mut notes = Vec::new();
    if fold_layer_scale(&mut tensors)? {
        notes.push(
            "the blocks' scales (LayerScale) were multiplied into the matrices before them"
                .to_owned(),
        );
    }
    add_counters(&mut tensors);
    let config = match named {
        Some(named) => named.clone(),
        None => {
            let (config, note) = family::format(&recognized).assume(&selected.prefix);
            notes.extend(note);
            config
        }
    };
    config.validate()?;
    Ok(LoadedEncoder {
        preprocessing: Preprocessing::usual(&config),
        config,
        tensors,
        prefix: selected.prefix,
        left_out: selected.left_out,
        notes,
    })
}

/// Refuses shapes whose tensors would take more memory than any encoder needs.
fn validate_total(shapes: &Shapes) -> Result<()> {
    let numbers = |shape: &Vec<i64>| shape.iter().try_fold(1i64, |n, size| n.checked_mul(*size));
    let total = shapes.values().try_fold(0i64, |sum, shape| sum.checked_add(numbers(shape)?));
    ensure(total.is_some_and(|total| total <= MAX_NUMBERS), || {
        damaged(format!(
            "its tensors would have more than {MAX_NUMBERS} numbers, which no encoder here has"
        ))
    })
}

/// Folds LayerScale (Touvron et al. 2021, arXiv:2103.17239, section 2), by which DINOv2's blocks
/// scale the outputs of attention and MLP, into the matrix before it: γ(Wx + b) = (γW)x + γb.
fn fold_layer_scale(tensors: &mut BTreeMap<String, Tensor>) -> Result<bool> {
    let of_vit = |name: &&String| name.ends_with(".ls1.gamma") || name.ends_with(".ls2.gamma");
    let scales: Vec<String> = tensors.keys().filter(of_vit).cloned().collect();
    for name in &scales {
        let layer = match name.strip_suffix(".ls1.gamma") {
            Some(block) => format!("{block}.attn.proj"),
            None => format!(
                "{}.mlp.fc2",
                name.strip_suffix(".ls2.gamma").or_damaged("a scale without a place")?
            ),
        };
        let scale = tensors.remove(name).or_damaged("a scale that is gone")?;
        for (part, scale) in [("weight", scale.f_unsqueeze(-1)?), ("bias", scale.shallow_clone())] {
            let tensor = tensors
                .get_mut(&format!("{layer}.{part}"))
                .or_damaged(format!("there is no `{layer}.{part}` for `{name}` to scale"))?;
            *tensor = tensor.f_mul(&scale).or_damaged(format!("`{name}` does not fit"))?;
        }
    }
    Ok(!scales.is_empty())
}

/// Adds `num_batches_tracked`, which files from before PyTorch 0.4.1 lack.
fn add_counters(tensors: &mut BTreeMap<String, Tensor>) {
    let norms: Vec<String> = tensors
        .keys()
        .filter_map(|name| name.strip_suffix("running_mean").map(str::to_owned))
        .collect();
    for norm in norms {
        tensors.entry(format!("{norm}num_batches_tracked")).or_insert_with(|| Tensor::from(0i64));
    }
}
