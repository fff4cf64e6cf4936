//! The weights of a teacher (`--teacher`).

use anyhow::{Context, Result, ensure};
use portolan_encoders::EncoderConfig;
use portolan_interchange::LoadedEncoder;
use portolan_method::ImageMethod;
use portolan_tensor::Tensor;
use std::path::{Path, PathBuf};

use super::print_load_summary;
use super::run_encoder::FILE;
use crate::config::RunConfig;
use crate::config::teacher::{PREFIX, teacher_of};
use crate::teacher::TeacherFile;

/// Reads an encoder's file, a hub folder or a run. `named` gives the architecture if the weights do
/// not define it.
///
/// # Errors
/// If there is no usable encoder.
pub(crate) fn open(path: PathBuf, named: Option<&str>) -> Result<TeacherFile> {
    let named = named.map(EncoderConfig::named).transpose().context("in --teacher-encoder")?;
    let (found, file) = read(&path, named.as_ref())?;
    eprintln!("teacher  {} pixels a side", found.preprocessing.size);
    print_load_summary(&found, &file);
    Ok(TeacherFile { path, encoder: found.config, preprocessing: found.preprocessing })
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use portolan_encoders::build;
    use portolan_interchange::{Preprocessing, write};
    use portolan_tensor::{Device, Vars};

    use super::*;
    use crate::args::RunArgs;
    use crate::config::build::build_method;
    use crate::config::resolve::resolve;
    use crate::methods::find;

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
        let file = open(folder.path().to_owned(), None).unwrap();
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
        let refused = |path: PathBuf| format!("{:#}", open(path, None).unwrap_err());
        assert!(refused(folder.path().join("none.pth")).contains("none.pth"));
        std::fs::write(folder.path().join("config.toml"), "").unwrap();
        assert!(refused(folder.path().to_owned()).contains("finish it first"));
    }
}
