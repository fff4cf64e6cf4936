//! The teacher in the settings of a run of distillation.

use anyhow::Result;
use portolan::distill::TeacherConfig;
use portolan_encoders::EncoderConfig;
use portolan_method::Family;
use toml::Value;

use super::RunConfig;
use crate::methods::find;

/// What precedes the names of the teacher's tensors in the state of the method.
pub(crate) const PREFIX: &str = "teacher.";

/// The teacher in the settings of a run, if its method has one.
///
/// # Errors
/// If the settings are not those of a teacher.
pub(crate) fn teacher_of(config: &RunConfig) -> Result<Option<TeacherConfig>> {
    let teacher = config.settings.get("teacher").filter(|it| it.is_table());
    Ok(teacher.map(|teacher| teacher.clone().try_into()).transpose()?)
}

/// Whether tensors with this prefix are a frozen teacher's, which keeps its weights.
pub(crate) fn is_teacher(prefix: &str, config: &RunConfig) -> bool {
    prefix == PREFIX && config.settings.contains_key("teacher")
}

/// Gives a method that needs a teacher a small one with random weights, for checks of steps.
///
/// # Errors
/// If the method is unknown.
pub(crate) fn add_random(config: &mut RunConfig) -> Result<()> {
    if find(&config.method)?.traits.family == Family::Distillation {
        let (mean, std) = config.normalization().unwrap_or(([0.5; 3], [0.25; 3]));
        let teacher = TeacherConfig {
            file: String::new(),
            size: 32,
            mean,
            std,
            grayscale: false,
            encoder: EncoderConfig::named("vit_w16d1h2_patch8_32")?,
        };
        config.settings.insert("teacher".to_owned(), Value::try_from(teacher)?);
    }
    Ok(())
}
