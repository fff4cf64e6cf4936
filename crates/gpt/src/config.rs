//! GPT's settings.

use serde::{Deserialize, Serialize};

/// The settings of next-token prediction: there are none beside those of encoder and training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GptConfig {}
