//! Reading and writing safetensors files, with string metadata.

use safetensors::tensor::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// The types that both libtorch and safetensors know.
const KINDS: [(Kind, Dtype); 9] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::Half, Dtype::F16),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Int16, Dtype::I16),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

/// The metadata key of the checksum over all tensors' names and bytes. It is the sum of each
/// tensor's, since a reader may see them in another order.
const CHECKSUM: &str = "crc32c";

fn checksum(name: &str, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name.as_bytes()), bytes)
}

/// A tensor's bytes, copied out to the CPU.
struct Bytes {
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

impl Bytes {
    fn of(name: &str, tensor: &Tensor) -> Result<Self> {
        let kind = tensor.f_kind()?;
        let (_, dtype) = *KINDS.iter().find(|(k, _)| *k == kind).ok_or_else(|| {
            Error::Unsupported(format!("safetensors cannot hold `{name}` of kind {kind:?}"))
        })?;
        let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
        let mut data = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut data, tensor.numel())?;
        Ok(Bytes { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), data })
    }
}

impl View for &Bytes {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}

/// Writes `tensors` and `metadata` to `path`, with a checksum, as [`write_atomic`] does.
///
/// # Errors
/// When the folder cannot be written or the disk is full. Then the old file at `path` is untouched.
pub fn save(
    path: &Path,
    tensors: &[(String, Tensor)],
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let bytes = tensors
        .iter()
        .map(|(name, tensor)| Ok((name.as_str(), Bytes::of(name, tensor)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut metadata: HashMap<_, _> = metadata.clone().into_iter().collect();
    let sum = bytes.iter().fold(0, |sum: u32, (name, b)| sum.wrapping_add(checksum(name, &b.data)));
    metadata.insert(CHECKSUM.to_owned(), format!("{sum:08x}"));
    let file = safetensors::serialize(bytes.iter().map(|(n, b)| (*n, b)), Some(metadata))?;
    write_atomic(path, &file)
}

/// Writes `contents` to a temporary file beside `path`, syncs it to the disk and renames it, so
/// that after a crash `path` is either the old file or all of the new one.
///
/// # Errors
/// When the folder cannot be written or the disk is full.
pub fn write_atomic(path: &Path, contents: &[u8]) -> Result<()> {
    use std::io::Write;
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let write = || -> std::io::Result<()> {
        let mut aside = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
        aside.write_all(contents)?;
        make_readable(aside.as_file())?;
        aside.as_file().sync_all()?;
        aside.persist(path)?;
        // The rename itself reaches the disk with the folder.
        std::fs::File::open(folder)?.sync_all()
    };
    write().map_err(|source| Error::Write { path: path.to_owned(), bytes: contents.len(), source })
}

/// Gives a temporary file, which is private to its owner, the usual permissions.
#[cfg(unix)]
fn make_readable(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}
#[cfg(not(unix))]
fn make_readable(_: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

/// The tensors (on the CPU) and the metadata of the safetensors file at `path`.
///
/// # Errors
/// When the file is missing, cut short, not a safetensors file, or differs from what [`save`]
/// wrote. Every length in it is checked.
pub fn load(path: &Path) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    parse(&bytes).map_err(|error| Error::Damaged { path: path.to_owned(), source: Box::new(error) })
}

fn parse(bytes: &[u8]) -> Result<(BTreeMap<String, Tensor>, BTreeMap<String, String>)> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let mut metadata: BTreeMap<String, String> =
        header.metadata().clone().unwrap_or_default().into_iter().collect();
    let mut tensors = BTreeMap::new();
    let mut sum: u32 = 0;
    for (name, view) in SafeTensors::deserialize(bytes)?.tensors() {
        let (kind, _) = *KINDS.iter().find(|(_, d)| *d == view.dtype()).ok_or_else(|| {
            Error::Unsupported(format!("`{name}` has type {:?}, unknown here", view.dtype()))
        })?;
        sum = sum.wrapping_add(checksum(&name, view.data()));
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?;
        tensors.insert(name, tensor);
    }
    // Files of other tools have no checksum.
    match metadata.remove(CHECKSUM) {
        Some(written) if written != format!("{sum:08x}") => Err(Error::Checksum),
        _ => Ok((tensors, metadata)),
    }
}

/// Copies the tensors `from` into those of the same names in `into`, in place.
///
/// # Errors
/// When a name is missing or left over, or shapes differ. Then nothing is copied.
pub fn copy_into(into: &[(String, Tensor)], from: &BTreeMap<String, Tensor>) -> Result<()> {
    for (name, target) in into {
        let source = from
            .get(name)
            .ok_or_else(|| Error::Mismatch(format!("there is no tensor `{name}`")))?;
        let (theirs, ours) = (source.size(), target.size());
        if theirs != ours {
            return Err(Error::Mismatch(format!("`{name}` is {theirs:?} there and {ours:?} here")));
        }
    }
    if let Some(extra) = from.keys().find(|name| !into.iter().any(|(known, _)| known == *name)) {
        return Err(Error::Mismatch(format!("the tensor `{extra}` has no place here")));
    }
    crate::no_grad(|| {
        for (name, target) in into {
            target.shallow_clone().f_copy_(&from[name])?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let named = |n: &str, t: Tensor| (n.to_owned(), t);
        let tensors = vec![
            named("weights", Tensor::from_slice(&[1f32, -2.5, 3.0, 0.0]).view([2, 2])),
            named("half", Tensor::from_slice(&[1f32, 2.0]).to_kind(Kind::BFloat16)),
            named("count", Tensor::from(7i64)),
            named("none", Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))),
        ];
        let metadata = BTreeMap::from([("method".to_owned(), "moco".to_owned())]);
        save(&path, &tensors, &metadata).unwrap();
        let (loaded, described) = load(&path).unwrap();
        assert_eq!(described, metadata);
        assert_eq!(loaded.len(), tensors.len());
        for (name, tensor) in &tensors {
            assert_eq!(loaded[name].kind(), tensor.kind());
            assert_eq!(&loaded[name], tensor, "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing left aside");
    }

    #[test]
    fn a_file_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensors = vec![("a".to_owned(), Tensor::ones([64], (Kind::Float, Device::Cpu)))];
        save(&path, &tensors, &BTreeMap::new()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 7, 40, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let error = load(&path).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn a_file_with_one_bit_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let ones = |n: i64| Tensor::ones([n], (Kind::Float, Device::Cpu));
        save(&path, &[("a".to_owned(), ones(64)), ("b".to_owned(), ones(3))], &BTreeMap::new())
            .unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 4;
        std::fs::write(&path, &bytes).unwrap();
        assert!(load(&path).unwrap_err().with_causes().contains("checksum"));
    }

    #[test]
    fn copying_checks_names_and_shapes_first() {
        let target = vec![("a".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)))];
        let from = |name: &str, n: i64| {
            BTreeMap::from([(name.to_owned(), Tensor::ones([n], (Kind::Float, Device::Cpu)))])
        };
        assert!(copy_into(&target, &from("b", 2)).is_err());
        assert!(copy_into(&target, &from("a", 3)).is_err());
        let mut more = from("a", 2);
        more.extend(from("z", 1));
        assert!(copy_into(&target, &more).is_err());
        assert_eq!(target[0].1.sum(Kind::Float).double_value(&[]), 0.0);
        copy_into(&target, &from("a", 2)).unwrap();
        assert_eq!(target[0].1.sum(Kind::Float).double_value(&[]), 2.0);
    }
}
