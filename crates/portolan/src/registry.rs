//! The methods of the enabled features: the one list of them.

use portolan_method::{MethodEntry, TextMethodEntry};

/// Every method of the enabled features, in the order in which programs list them.
pub static METHODS: &[&MethodEntry] = &[
    #[cfg(feature = "simclr")]
    &portolan_simclr::METHOD,
    #[cfg(feature = "moco")]
    &portolan_moco::METHOD,
    #[cfg(feature = "moco")]
    &portolan_moco::METHOD_V3,
    #[cfg(feature = "byol")]
    &portolan_byol::METHOD,
    #[cfg(feature = "simsiam")]
    &portolan_simsiam::METHOD,
    #[cfg(feature = "barlow")]
    &portolan_barlow::METHOD,
    #[cfg(feature = "vicreg")]
    &portolan_vicreg::METHOD,
    #[cfg(feature = "dino")]
    &portolan_dino::METHOD,
    #[cfg(feature = "dinov2")]
    &portolan_dinov2::METHOD,
    #[cfg(feature = "mae")]
    &portolan_mae::METHOD,
    #[cfg(feature = "distill")]
    &portolan_distill::METHOD,
    #[cfg(feature = "pretext")]
    &portolan_pretext::ROTATION,
    #[cfg(feature = "pretext")]
    &portolan_pretext::JIGSAW,
    #[cfg(feature = "pretext")]
    &portolan_pretext::COLORIZATION,
];

/// Every method of the enabled features that learns from text.
pub static TEXT_METHODS: &[&TextMethodEntry] = &[
    #[cfg(feature = "bert")]
    &portolan_bert::METHOD,
    #[cfg(feature = "gpt")]
    &portolan_gpt::METHOD,
];
