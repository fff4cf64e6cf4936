//! Self-supervised pretraining of vision encoders on libtorch: one crate to depend on, with a
//! feature for each method.
//!
//! ```toml
//! [dependencies]
//! portolan = { version = "0.1", features = ["moco"] }
//! ```
//!
//! ```
//! use portolan::encoders::{ResNetConfig, build};
//! use portolan::losses::nt_xent;
//! use portolan::tensor::{Device, Kind, Tensor, Vars};
//!
//! // An encoder, two views of four images, and SimCLR's loss between them.
//! let config = ResNetConfig { width: 8, ..ResNetConfig::named("resnet18")? };
//! let encoder = build(&config.into(), &Vars::new(Device::Cpu))?;
//! let view = || Tensor::randn([4, 3, 32, 32], (Kind::Float, Device::Cpu));
//! let (a, b) = (encoder.forward(&view(), true), encoder.forward(&view(), true));
//! nt_xent(&a, &b, 0.5)?.backward();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Each module is a crate of its own, `portolan-moco` for instance, for those who want no more than
//! that. The modules without a feature are what every method is made of. The program `portolan` is
//! the crate `portolan-cli`.

mod registry;

pub use registry::{METHODS, TEXT_METHODS};

pub use portolan_augment as augment;
pub use portolan_encoders as encoders;
pub use portolan_losses as losses;
pub use portolan_method as method;
pub use portolan_optim as optim;
pub use portolan_tensor as tensor;

#[cfg(feature = "barlow")]
pub use portolan_barlow as barlow;
#[cfg(feature = "bert")]
pub use portolan_bert as bert;
#[cfg(feature = "byol")]
pub use portolan_byol as byol;
#[cfg(feature = "data")]
pub use portolan_data as data;
#[cfg(feature = "dino")]
pub use portolan_dino as dino;
#[cfg(feature = "dinov2")]
pub use portolan_dinov2 as dinov2;
#[cfg(feature = "distill")]
pub use portolan_distill as distill;
#[cfg(feature = "evaluate")]
pub use portolan_evaluate as evaluate;
#[cfg(feature = "gpt")]
pub use portolan_gpt as gpt;
#[cfg(feature = "images")]
pub use portolan_images as images;
#[cfg(feature = "interchange")]
pub use portolan_interchange as interchange;
#[cfg(feature = "mae")]
pub use portolan_mae as mae;
#[cfg(feature = "moco")]
pub use portolan_moco as moco;
#[cfg(feature = "pretext")]
pub use portolan_pretext as pretext;
#[cfg(feature = "sequences")]
pub use portolan_sequences as sequences;
#[cfg(feature = "simclr")]
pub use portolan_simclr as simclr;
#[cfg(feature = "simsiam")]
pub use portolan_simsiam as simsiam;
#[cfg(feature = "text")]
pub use portolan_text as text;
#[cfg(feature = "train")]
pub use portolan_train as train;
#[cfg(feature = "vicreg")]
pub use portolan_vicreg as vicreg;
