//! Overrides settings by name, from a file, from flags and from `--set`. For an unknown name, the
//! error suggests the closest one.

use anyhow::{Context, Result, bail, ensure};
use portolan_augment::ViewSpec;
use portolan_tensor::Device;
use std::path::Path;
use toml::{Table, Value};

use crate::config::RunConfig;
use crate::methods;

/// Applies the settings of the TOML file at `path` to `base`.
///
/// # Errors
/// If the file is not TOML or contains an unknown setting.
pub(crate) fn apply_file(base: &mut Table, path: &Path) -> Result<()> {
    let known = paths(base);
    merge(base, read(path)?, "", &known).with_context(|| format!("in {}", path.display()))
}

/// The recipe named in the TOML file at `path`, as in the `config.toml` of every run.
///
/// # Errors
/// If the file is not TOML.
pub(crate) fn recipe_in(path: &Path) -> Result<Option<String>> {
    let file = read(path)?;
    Ok(file.get("recipe").and_then(Value::as_str).map(str::to_owned))
}

/// The settings in the TOML file at `path`.
///
/// # Errors
/// If it cannot be read or is not TOML.
pub(crate) fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings in {}", path.display()))?;
    let mut table =
        text.parse().with_context(|| format!("{} is not valid TOML", path.display()))?;
    rename(&mut table);
    Ok(table)
}

/// Settings renamed since version 0.1, in any table: the old and the new name.
const RENAMED: [(&str, &str); 1] = [("normalise_patches", "normalize_patches")];

/// Renames the settings of older versions.
fn rename(table: &mut Table) {
    for (old, new) in RENAMED {
        if let Some(value) = table.remove(old) {
            table.insert(new.to_owned(), value);
        }
    }
    table.iter_mut().filter_map(|(_, value)| value.as_table_mut()).for_each(rename);
}

fn apply_text(base: &mut Table, text: &str) -> Result<()> {
    let file: Table = text.parse().context("it is not valid TOML")?;
    let known = paths(base);
    merge(base, file, "", &known)
}

/// Checks whether `text`, applied to the settings of MoCo on `shapes`, gives valid settings.
///
/// # Errors
/// If it does not. The message names the problem.
pub fn check_text(text: &str) -> Result<()> {
    let mut table = methods::find("moco")?.recipe("shapes")?;
    apply_text(&mut table, text)?;
    let config: RunConfig = table.try_into()?;
    config.training.validate(10_000, Device::Cpu)?;
    config.evaluation.knn.validate(10_000)?;
    Ok(config.each_view().iter().try_for_each(ViewSpec::validate)?)
}

/// What a recipe need not have: published accuracies, which are data; a teacher, which has a
/// command of its own; a separate head for the patches of DINOv2; another objective of SimCLR.
const OPTIONAL: [&str; 4] =
    ["published", "settings.teacher", "settings.ibot_head", "settings.objective"];

fn merge(base: &mut Table, over: Table, prefix: &str, known: &[String]) -> Result<()> {
    for (key, value) in over {
        let path = format!("{prefix}{key}");
        match (base.get_mut(&key), value) {
            // Another optimizer or encoder family has other settings, so the file must give all of
            // them.
            (Some(Value::Table(base)), Value::Table(over)) if is_other_kind(base, &over) => {
                *base = over
            }
            (Some(Value::Table(base)), Value::Table(over)) => {
                merge(base, over, &format!("{path}."), known)?;
            }
            (Some(place), value) => replace(place, value, &path)?,
            (None, value) if OPTIONAL.contains(&path.as_str()) => {
                base.insert(key, value);
            }
            (None, _) => bail!(unknown(&path, known)),
        }
    }
    Ok(())
}

/// Whether a table selects another kind or family than before.
fn is_other_kind(before: &Table, table: &Table) -> bool {
    let differs = |tag| table.get(tag).is_some_and(|value| before.get(tag) != Some(value));
    ["kind", "family"].into_iter().any(differs)
}

/// Sets the value at `key`: a full path (`training.epochs`), or its last part if that is unique.
/// Settings of the method take precedence: `temperature` is `settings.temperature`, and that of kNN
/// must be given with its full path. Returns the full path.
///
/// # Errors
/// If the name is unknown or ambiguous, or the value has another type.
pub(crate) fn set(table: &mut Table, key: &str, value: Value) -> Result<String> {
    let known = paths(table);
    // A short name means the student's encoder, never the teacher's.
    let is_short_for = |path: &&String| {
        path.ends_with(&format!(".{key}")) && !path.starts_with("settings.teacher.encoder.")
    };
    let matches: Vec<&String> =
        known.iter().filter(|path| *path == key || is_short_for(path)).collect();
    let exact = matches.iter().find(|path| ***path == key);
    let own = matches.iter().find(|path| ***path == format!("settings.{key}"));
    let path = match (exact.or(own), &matches[..]) {
        (Some(path), _) => path.as_str(),
        (None, [path]) => path.as_str(),
        (None, []) => match OPTIONAL.iter().find(|path| **path == key) {
            Some(path) => path,
            None => bail!(unknown(key, &known)),
        },
        (None, several) => {
            let several: Vec<&str> = several.iter().map(|path| path.as_str()).collect();
            bail!("`{key}` could be {}; give the full name", several.join(" or "))
        }
    };
    let (folders, last) = path.rsplit_once('.').unwrap_or(("", path));
    let mut inner = table;
    for folder in folders.split('.').filter(|folder| !folder.is_empty()) {
        inner = inner
            .get_mut(folder)
            .and_then(Value::as_table_mut)
            .with_context(|| format!("`{folder}` of `{path}` is not a table"))?;
    }
    match inner.get_mut(last) {
        Some(place) => replace(place, value, path)?,
        // One of `OPTIONAL`.
        None => drop(inner.insert(last.to_owned(), value)),
    }
    Ok(path.to_string())
}

/// Applies one `--set key=value`, where the value is TOML or a plain word. Returns the full path of
/// the key.
///
/// # Errors
/// Those of [`set`].
pub(crate) fn set_from_text(table: &mut Table, text: &str) -> Result<String> {
    let Some((key, value)) = text.split_once('=') else {
        bail!("--set {text} has no value; write --set {text}=VALUE")
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("value = {value}").parse::<Table>().ok();
    let value = parsed
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    set(table, key, value).with_context(|| format!("--set {text}"))
}

/// Replaces `place` with a value of the same type. Integers and floats can replace each other: some
/// settings accept both (`warmup_epochs`), and the others reject a fraction when they are parsed.
fn replace(place: &mut Value, value: Value, path: &str) -> Result<()> {
    let value = match (&*place, value) {
        (Value::Float(_), Value::Integer(n)) => Value::Float(n as f64),
        (Value::Integer(_), fraction @ Value::Float(_)) => {
            *place = fraction;
            return Ok(());
        }
        (_, value) => value,
    };
    ensure!(
        place.same_type(&value),
        "`{path}` must be of type {}, but {value} is of type {}",
        place.type_str(),
        value.type_str()
    );
    *place = value;
    Ok(())
}

/// The value at a full path.
pub(crate) fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let mut parts = path.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

/// The paths of all settings, such as `training.epochs`. A list counts as one setting.
pub(crate) fn paths(table: &Table) -> Vec<String> {
    let mut all = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => {
                all.push(key.clone());
                all.extend(paths(inner).into_iter().map(|path| format!("{key}.{path}")));
            }
            _ => all.push(key.clone()),
        }
    }
    all
}

fn unknown(key: &str, known: &[String]) -> String {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let nearest = known.iter().min_by_key(|path| {
        let whole = strsim::damerau_levenshtein(key, path);
        let distance = whole.min(strsim::damerau_levenshtein(&last(key), &last(path)));
        (distance, !path.starts_with("settings.")) // settings of the method first, as in `set`
    });
    match nearest {
        Some(path) => format!("there is no setting `{key}`; did you mean `{path}`?"),
        None => format!("there is no setting `{key}`"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn base() -> Table {
        "seed = 0\n[settings]\ntemperature = 0.2\nqueue = 4096\n[training]\nepochs = 3\n\
         [evaluation.knn]\ntemperature = 0.07"
            .parse()
            .unwrap()
    }

    #[test]
    fn another_family_or_kind_replaces_the_table() {
        let mut table = methods::find("dino").unwrap().recipe("shapes").unwrap();
        let vit = methods::find("dino").unwrap().recipe("shapes-vit").unwrap();
        let file: Table = vit.clone().into_iter().filter(|(key, _)| key != "published").collect();
        apply_text(&mut table, &file.to_string()).unwrap();
        assert_eq!(table["encoder"], vit["encoder"]);
        assert_eq!(table["training"]["optimizer"], vit["training"]["optimizer"]);
        let config: RunConfig = table.clone().try_into().unwrap();
        assert_eq!(config.encoder.name(), "vit_w96d4h3_patch4_32");
        let error = apply_text(&mut table, "[encoder]\nwidht = 8").unwrap_err().to_string();
        assert!(error.contains("encoder.width"), "{error}");
    }

    #[test]
    fn a_unique_last_part_names_a_setting() {
        let mut table = base();
        set_from_text(&mut table, "queue=512").unwrap();
        set_from_text(&mut table, "temperature=1").unwrap();
        set_from_text(&mut table, "evaluation.knn.temperature=0.5").unwrap();
        assert_eq!(table["settings"]["queue"].as_integer(), Some(512));
        assert_eq!(table["settings"]["temperature"].as_float(), Some(1.0), "the method's own");
        assert_eq!(table["evaluation"]["knn"]["temperature"].as_float(), Some(0.5));
    }

    #[test]
    fn settings_that_a_recipe_need_not_have_can_be_added() {
        let mut table = methods::find("dinov2").unwrap().recipe("shapes").unwrap();
        let head = "{ layers = 2, hidden = 64, bottleneck = 32, dim = 128 }";
        set_from_text(&mut table, &format!("settings.ibot_head={head}")).unwrap();
        set_from_text(&mut table, "settings.ibot_head.dim=256").unwrap();
        let config: RunConfig = table.try_into().unwrap();
        assert_eq!(config.settings["ibot_head"]["dim"].as_integer(), Some(256));
    }

    #[test]
    fn unknown_settings_are_refused_with_the_closest_name() {
        let complaint = |text: &str| format!("{:#}", set_from_text(&mut base(), text).unwrap_err());
        assert!(complaint("temprature=0.1").contains("`settings.temperature`?"));
        assert!(complaint("epoch=1").contains("training.epochs"));
        assert!(complaint("queue=many").contains("integer"));
        assert!(complaint("queue").contains("has no value"));
    }

    #[test]
    fn a_file_is_applied_and_checked() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut table = base();
        std::fs::write(file.path(), "[training]\nepochs = 9").unwrap();
        apply_file(&mut table, file.path()).unwrap();
        assert_eq!(table["training"]["epochs"].as_integer(), Some(9));
        std::fs::write(file.path(), "[training]\nepoch = 9").unwrap();
        let error = format!("{:#}", apply_file(&mut table, file.path()).unwrap_err());
        assert!(error.contains("training.epochs"), "{error}");
    }

    #[test]
    fn settings_of_older_versions_are_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let old = "[settings]\nnormalise_patches = false\n[training]\non_divergence = \"tell\"\n";
        std::fs::write(file.path(), old).unwrap();
        let mut table = methods::find("mae").unwrap().recipe("shapes").unwrap();
        set_from_text(&mut table, "normalize_patches=true").unwrap();
        apply_file(&mut table, file.path()).unwrap();
        let config: RunConfig = table.try_into().unwrap();
        assert_eq!(config.settings["normalize_patches"].as_bool(), Some(false));
        assert_eq!(config.training.on_divergence, portolan_train::OnDivergence::Warn);
    }
}
