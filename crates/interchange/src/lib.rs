//! Reading and writing encoders in the files of other tools: timm's hub folders, torchvision's and
//! timm's safetensors, and the checkpoints that the authors of MoCo, Barlow Twins, VICReg, DINO,
//! DINOv2 and MAE publish.
//!
//! ```
//! use portolan_encoders::{EncoderConfig, build};
//! use portolan_interchange::{LoadedEncoder, Preprocessing, write};
//! use portolan_tensor::{Device, Vars};
//!
//! let folder = std::env::temp_dir().join(format!("portolan-interchange-{}", std::process::id()));
//! std::fs::create_dir_all(&folder)?;
//! let file = folder.join("encoder.safetensors");
//! let config = EncoderConfig::named("resnet18-w4")?;
//! let encoder = build(&config, &Vars::new(Device::Cpu))?;
//! write(&file, &*encoder, &config, &Preprocessing::imagenet(224), "simclr")?;
//!
//! let loaded = LoadedEncoder::open(&file, None)?; // or a .pth file, or a folder with config.json
//! let again = loaded.build(&config, Device::Cpu)?;
//! assert_eq!(again.width(), encoder.width());
//! # std::fs::remove_dir_all(folder)?;
//! # anyhow::Ok(())
//! ```
//!
//! An encoder is recognized by the names and shapes of its weights, not by whose file it is: the
//! authors' files differ only in what surrounds the encoder, and so do those of many others.
//! [`LoadedEncoder`] tells what was used and what was left out. A tensor that would change what the
//! encoder computes is never left out.
//!
//! Networks of text ([`LoadedText`]) are read from folders in transformers' layout.
//!
//! PyTorch's checkpoints are pickles, programs that name Python's functions. They are read without
//! executing anything, by a small reader of our own. candle-core's was tried: it brings a tensor
//! library that takes longer to compile than the rest of Portolan, loses entries that are added to
//! a dictionary after its first use, and overflows the stack on nested values.

mod convnext;
mod error;
mod family;
mod format;
mod layout;
mod loaded;
mod names;
mod pickle;
mod preprocessing;
mod pth;
mod resnet;
mod text;
mod vit;

pub use error::{Error, Result};
pub use format::Python;
pub use layout::{Exported, Layout, exported};
pub use loaded::LoadedEncoder;
pub use loaded::hub::{hub_config, python};
pub use loaded::own::write;
pub use preprocessing::Preprocessing;
pub use text::{LoadedText, TextFamily};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
