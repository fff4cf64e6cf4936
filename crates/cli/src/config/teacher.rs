//! The teacher of distillation: `--teacher`, its settings, its weights.

use anyhow::{Context, Result, ensure};
use portolan::distill::TeacherConfig;
use portolan_augment::Views;
use portolan_encoders::EncoderConfig;
use portolan_interchange::{LoadedEncoder, Preprocessing};
use portolan_method::{Family, ImageMethod};
use portolan_tensor::Tensor;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

use super::RunConfig;
use crate::encoder_source::print_load_summary;
use crate::encoder_source::run_encoder::FILE;
use crate::methods::find;

/// What precedes the names of the teacher's tensors in the state of the method.
const PREFIX: &str = "teacher.";

/// The largest side in pixels of images for the teacher, if the views are not larger. A teacher for
/// 518 pixels sees views of 224 as they are, and one for 224 sees views of 32 enlarged.
const USUAL_SIZE: u32 = 224;

/// The file of a teacher and what it says of itself.
#[derive(Clone, Debug)]
pub(crate) struct TeacherFile {
    path: PathBuf,
    encoder: EncoderConfig,
    preprocessing: Preprocessing,
}

impl TeacherFile {
    /// Reads an encoder's file, a hub folder or a run. `named` gives the architecture if the
    /// weights do not define it.
    ///
    /// # Errors
    /// If there is no usable encoder.
    pub(crate) fn open(path: PathBuf, named: Option<&str>) -> Result<Self> {
        let named = named.map(EncoderConfig::named).transpose().context("in --teacher-encoder")?;
        let (found, file) = read(&path, named.as_ref())?;
        eprintln!("teacher  {} pixels a side", found.preprocessing.size);
        print_load_summary(&found, &file);
        Ok(TeacherFile { path, encoder: found.config, preprocessing: found.preprocessing })
    }

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

/// The encoder at this path, and the file that it is in.
fn read(path: &Path, named: Option<&EncoderConfig>) -> Result<(LoadedEncoder, PathBuf)> {
    let of_run = path.join(FILE);
    let file = if of_run.exists() { of_run } else { path.to_owned() };
    ensure!(
        file != path || !path.join("config.toml").exists(),
        "the teacher {} is a run without a trained encoder; finish it first with portolan \
         pretrain --resume {}",
        path.display(),
        path.display()
    );
    let found = LoadedEncoder::open(&file, named).context("in --teacher")?;
    Ok((found, file))
}

/// The teacher in the settings of a run, if its method has one.
fn teacher_of(config: &RunConfig) -> Result<Option<TeacherConfig>> {
    let teacher = config.settings.get("teacher").filter(|it| it.is_table());
    Ok(teacher.map(|teacher| teacher.clone().try_into()).transpose()?)
}

/// Copies the teacher's weights into a method that was just built.
///
/// # Errors
/// If its file is gone or holds another encoder.
pub(crate) fn load(config: &RunConfig, method: &dyn ImageMethod) -> Result<()> {
    let Some(teacher) = teacher_of(config)? else { return Ok(()) };
    let (found, _) = read(Path::new(&teacher.file), Some(&teacher.encoder))?;
    let own = |(name, tensor): (String, Tensor)| Some((name.strip_prefix(PREFIX)?.into(), tensor));
    let state: Vec<(String, Tensor)> = method.state().into_iter().filter_map(own).collect();
    Ok(found.copy_into(&state, &teacher.encoder)?)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_encoders::build;
    use portolan_interchange::write;
    use portolan_tensor::{Device, Vars};

    use super::*;
    use crate::args::RunArgs;
    use crate::config::build::build_method;
    use crate::config::resolve::resolve;

    /// A teacher's file in `folder`, and its weights.
    fn teacher_in(folder: &Path, name: &str) -> (PathBuf, Vec<(String, Tensor)>) {
        let path = folder.join("encoder.safetensors");
        let config = EncoderConfig::named(name).unwrap();
        let encoder = build(&config, &Vars::new(Device::Cpu)).unwrap();
        let preprocessing = Preprocessing { mean: [0.1, 0.2, 0.3], ..Preprocessing::imagenet(32) };
        write(&path, &*encoder, &config, &preprocessing, "moco").unwrap();
        (path, encoder.vars().state())
    }

    fn resolved(teacher: TeacherFile, set: &[&str]) -> Result<RunConfig> {
        let set = set.iter().map(|text| (*text).to_owned()).collect();
        let args = RunArgs {
            teacher: Some(teacher),
            encoder: Some("resnet18-w4".to_owned()),
            set,
            ..RunArgs::default()
        };
        Ok(resolve(find("distill")?.recipe("shapes")?, &args)?.0)
    }

    #[test]
    fn a_run_gets_the_teacher_s_settings_and_weights() {
        let folder = tempfile::tempdir().unwrap();
        let (_, weights) = teacher_in(folder.path(), "vit_w16d1h2_patch8_32");
        let file = TeacherFile::open(folder.path().to_owned(), None).unwrap();
        let config = resolved(file, &["width=5", "teacher.size=16"]).unwrap();
        assert_eq!(config.encoder.name(), "resnet18-w5", "a short name means the student's");
        let teacher = teacher_of(&config).unwrap().unwrap();
        assert_eq!((teacher.size, teacher.mean), (16, [0.1, 0.2, 0.3]));
        let method = build_method(&config, Device::Cpu).unwrap();
        load(&config, &*method).unwrap();
        let state: std::collections::BTreeMap<_, _> = method.state().into_iter().collect();
        assert!(weights.iter().all(|(name, own)| own.equal(&state[&format!("teacher.{name}")])));
        // The settings that a run writes are complete.
        let text = toml::to_string(&config).unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, &text).unwrap();
        let args = RunArgs { config: Some(file), ..RunArgs::default() };
        let recipe = find("distill").unwrap().recipe("shapes").unwrap();
        assert_eq!(toml::to_string(&resolve(recipe, &args).unwrap().0).unwrap(), text);
    }

    #[test]
    fn a_missing_teacher_is_named() {
        let recipe = find("distill").unwrap().recipe("shapes").unwrap();
        let (config, _) = resolve(recipe, &RunArgs::default()).unwrap();
        let error = build_method(&config, Device::Cpu).err().unwrap().to_string();
        assert!(error.contains("--teacher FILE"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: PathBuf| format!("{:#}", TeacherFile::open(path, None).unwrap_err());
        assert!(refused(folder.path().join("none.pth")).contains("none.pth"));
        std::fs::write(folder.path().join("config.toml"), "").unwrap();
        assert!(refused(folder.path().to_owned()).contains("finish it first"));
    }

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
