//! What a teacher's file says of itself, and the settings of distillation that follow.

use anyhow::{Context, Result};
use portolan::distill::TeacherConfig;
use portolan_augment::Views;
use portolan_encoders::EncoderConfig;
use portolan_interchange::Preprocessing;
use std::path::PathBuf;
use toml::{Table, Value};

/// The largest side in pixels of images for the teacher, if the views are not larger. A teacher for
/// 518 pixels sees views of 224 as they are, and one for 224 sees views of 32 enlarged.
const USUAL_SIZE: u32 = 224;

/// The file of a teacher and what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct TeacherFile {
    /// A file, a hub folder or a run.
    pub(crate) path: PathBuf,
    /// Its encoder.
    pub(crate) encoder: EncoderConfig,
    /// How its images are prepared.
    pub(crate) preprocessing: Preprocessing,
}

impl TeacherFile {
    /// Adds the teacher to the settings of a run.
    ///
    /// # Errors
    /// If the settings have no views.
    pub(crate) fn insert_into(&self, table: &mut Table) -> Result<()> {
        let views: Vec<Views> = table["views"].clone().try_into()?;
        let view = Views::each(&views).first().map_or(USUAL_SIZE, |view| view.size());
        let Preprocessing { size, mean, std, grayscale, .. } = self.preprocessing;
        let teacher = TeacherConfig {
            file: self.path.display().to_string(),
            size: size_for(&self.encoder, size, view),
            mean,
            std,
            grayscale,
            encoder: self.encoder.clone(),
        };
        let settings = table.get_mut("settings").and_then(Value::as_table_mut);
        let settings = settings.context("the recipe has no settings")?;
        settings.insert("teacher".to_owned(), Value::try_from(teacher)?);
        Ok(())
    }
}

/// The size at which a teacher for images of `own` pixels gets views of `view` pixels: its own, but
/// no more than the usual one or the view's, in whole patches.
fn size_for(encoder: &EncoderConfig, own: u32, view: u32) -> i64 {
    let size = i64::from(own.min(view.max(USUAL_SIZE)));
    encoder.patch().map_or(size, |patch| (size - size % patch).max(patch))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_teacher_sees_images_of_a_size_that_it_knows_and_its_patches_tile() {
        let [resnet, dinov2, vit] = ["resnet50", "vit_small_patch14_518", "vit_tiny_patch4_32"]
            .map(|name| EncoderConfig::named(name).unwrap());
        assert_eq!(size_for(&resnet, 224, 32), 224, "small views are enlarged");
        assert_eq!(size_for(&dinov2, 518, 224), 224, "views of 224 stay");
        assert_eq!(size_for(&dinov2, 518, 256), 252, "in whole patches");
        assert_eq!(size_for(&vit, 32, 224), 32, "large views are shrunk");
    }
}
