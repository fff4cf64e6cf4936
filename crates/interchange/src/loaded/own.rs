//! Portolan's own files: safetensors with an encoder's settings and preprocessing in their
//! metadata.

use portolan_encoders::{Encoder, EncoderConfig};
use portolan_tensor::{Tensor, io};
use std::collections::BTreeMap;
use std::path::Path;

use super::LoadedEncoder;
use crate::error::OrDamaged;
use crate::{Error, Preprocessing, Result};

/// What a file's metadata say.
pub(crate) struct Description {
    pub(crate) encoder: EncoderConfig,
    pub(crate) preprocessing: Preprocessing,
}

const ENCODER: &str = "encoder";
const PREPROCESSING: &str = "shown";

/// Writes an encoder that `method` trained, with the names of torchvision or timm. The metadata
/// hold its settings and preprocessing.
///
/// # Errors
/// When the file cannot be written.
pub fn write(
    path: &Path,
    encoder: &dyn Encoder,
    config: &EncoderConfig,
    preprocessing: &Preprocessing,
    method: &str,
) -> Result<()> {
    let metadata = BTreeMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("method".to_owned(), method.to_owned()),
        (ENCODER.to_owned(), serde_json::to_string(config)?),
        (PREPROCESSING.to_owned(), serde_json::to_string(preprocessing)?),
    ]);
    Ok(io::save(path, &encoder.vars().state(), &metadata)?)
}

/// The description in these metadata; `None` if the file is not one of Portolan's.
pub(crate) fn description(metadata: &BTreeMap<String, String>) -> Option<Result<Description>> {
    let encoder = metadata.get(ENCODER)?;
    let preprocessing = metadata.get(PREPROCESSING)?;
    Some(parse(encoder, preprocessing).or_damaged("its description of itself is damaged"))
}

fn parse(encoder: &str, preprocessing: &str) -> Result<Description> {
    let preprocessing: Preprocessing = serde_json::from_str(preprocessing)?;
    preprocessing.validate()?;
    Ok(Description { encoder: serde_json::from_str(encoder)?, preprocessing })
}

/// The encoder of this description.
///
/// # Errors
/// When it is another than `named`.
pub(crate) fn loaded(
    description: Description,
    tensors: BTreeMap<String, Tensor>,
    named: Option<&EncoderConfig>,
) -> Result<LoadedEncoder> {
    let Description { encoder, preprocessing } = description;
    if let Some(named) = named {
        let (is, named) = (encoder.name(), named.name());
        if is != named {
            let message = format!("it says that it is {is}, not {named}; leave the name out");
            return Err(Error::WrongEncoder { message, source: None });
        }
    }
    Ok(LoadedEncoder {
        config: encoder,
        preprocessing,
        tensors,
        prefix: String::new(),
        left_out: Vec::new(),
        notes: Vec::new(),
    })
}
