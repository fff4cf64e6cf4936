//! Tensors in files of `torch.save`: a zip archive since PyTorch 1.6, a stream of pickles before,
//! as MoCo's files are.

use portolan_tensor::{Kind, Tensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use crate::error::{OrDamaged, damaged, ensure};
use crate::pickle::{Pickle, Value, ValueId};
use crate::{Error, Result};

/// The start of a stream: a pickle of PyTorch's magic number, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// The largest number of bytes of a pickle, which holds only names and shapes.
const MAX_PICKLE: u64 = 1 << 28;

/// A tensor's description in a file: a view of a storage.
#[derive(Clone, Debug)]
struct StoredTensor {
    storage: String,
    kind: Kind,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

/// Where the storages are.
#[derive(Debug)]
enum Storages {
    /// Entries of an archive, in this folder.
    Archive(ZipArchive<BufReader<File>>, String),
    /// One after another in a stream, with the start and the number of bytes of each.
    Stream(BufReader<File>, BTreeMap<String, (u64, u64)>),
}

/// An open file with its tensors by name: the keys of nested dictionaries, joined by dots.
#[derive(Debug)]
pub(crate) struct Pth {
    tensors: BTreeMap<String, StoredTensor>,
    storages: Storages,
    /// The key and bytes of the storage that was read last. Tensors may share one.
    last: Option<(String, Vec<u8>)>,
}

impl Pth {
    /// Reads names and shapes. The numbers stay in the file.
    ///
    /// # Errors
    /// When the file is not one of `torch.save`, is cut short, or would have Python call a function
    /// that no checkpoint needs.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file =
            File::open(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
        Self::read(file).map_err(|error| error.of(path))
    }

    fn read(file: File) -> Result<Self> {
        let mut file = BufReader::new(file);
        match file.fill_buf()? {
            start if start.starts_with(b"PK") => Self::read_archive(file),
            start if start.starts_with(&MAGIC) => Self::read_stream(file),
            _ => {
                let message = "it is neither a safetensors file nor one that torch.save wrote";
                Err(Error::Unsupported(message.to_owned()))
            }
        }
    }

    fn read_archive(file: BufReader<File>) -> Result<Self> {
        let mut archive =
            ZipArchive::new(file).or_damaged("its archive is cut short or damaged")?;
        let names: Vec<String> =
            archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<_>>()?;
        let pickle = names.iter().find(|name| name.ends_with("/data.pkl"));
        let pickle = pickle.or_damaged(
            "it is an archive, but not one that torch.save wrote: it has no data.pkl",
        )?;
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        if let Ok(mut order) = archive.by_name(&format!("{folder}byteorder")) {
            let mut text = String::new();
            order.by_ref().take(16).read_to_string(&mut text)?;
            ensure(text == "little", || {
                let message = format!("its numbers are {text}-endian; save it on another machine");
                Error::Unsupported(message)
            })?;
        }
        let pickle = archive.by_name(pickle)?;
        validate_uncompressed(&pickle)?;
        let contents = Pickle::read(&mut BufReader::new(pickle.take(MAX_PICKLE)))?;
        let tensors = named_tensors(&contents)?;
        Ok(Pth { tensors, storages: Storages::Archive(archive, folder), last: None })
    }

    fn read_stream(mut file: BufReader<File>) -> Result<Self> {
        file.seek_relative(MAGIC.len() as i64)?;
        let length = file.get_ref().metadata()?.len();
        let mut next = || Pickle::read(&mut file.by_ref().take(MAX_PICKLE));
        let (_protocol, _system, contents, keys) = (next()?, next()?, next()?, next()?);
        let Value::List(listed) = keys.at(keys.root()) else {
            return Err(damaged("it does not list its storages"));
        };
        let kinds = storage_kinds(&contents)?;
        let mut places = BTreeMap::new();
        for key in listed {
            let key = keys.text(*key).or_damaged("one of its storages has no name")?.to_owned();
            let kind = kinds.get(&key).or_damaged(format!("no tensor has its storage {key}"))?;
            let mut count = [0; 8];
            file.read_exact(&mut count).or_damaged("it is cut short")?;
            let bytes = u64::from_le_bytes(count)
                .checked_mul(kind.elt_size_in_bytes() as u64)
                .filter(|bytes| *bytes <= length)
                .or_damaged("it is cut short or damaged")?;
            let start = file.stream_position()?;
            places.insert(key, (start, bytes));
            file.seek_relative(bytes as i64)?;
        }
        Ok(Pth {
            tensors: named_tensors(&contents)?,
            storages: Storages::Stream(file, places),
            last: None,
        })
    }

    /// The shape of every tensor.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<i64>> {
        self.tensors.iter().map(|(name, of)| (name.clone(), of.size.clone())).collect()
    }

    /// A tensor's numbers.
    ///
    /// # Errors
    /// When they are not all there.
    pub(crate) fn tensor(&mut self, name: &str) -> Result<Tensor> {
        let stored = self.tensors.get(name).or_damaged(format!("there is no `{name}`"))?.clone();
        let (_, bytes) = match self.last.take().filter(|(key, _)| *key == stored.storage) {
            Some(last) => self.last.insert(last),
            None => {
                let bytes = self.storages.read(&stored.storage);
                let bytes = bytes.or_damaged(format!("in `{name}`"))?;
                self.last.insert((stored.storage.clone(), bytes))
            }
        };
        stored.view(bytes).or_damaged(format!("in `{name}`"))
    }
}

impl Storages {
    fn read(&mut self, key: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Storages::Archive(archive, folder) => {
                let mut entry = archive
                    .by_name(&format!("{folder}data/{key}"))
                    .or_damaged(format!("the archive lacks the storage {key}"))?;
                validate_uncompressed(&entry)?;
                entry.read_to_end(&mut bytes).or_damaged("the numbers are damaged")?;
            }
            Storages::Stream(file, places) => {
                let (start, length) =
                    *places.get(key).or_damaged(format!("the file lacks the storage {key}"))?;
                file.seek(SeekFrom::Start(start))?;
                file.take(length).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }
}

/// Refuses a compressed entry. torch.save compresses nothing, so that no entry is larger than the
/// file.
fn validate_uncompressed<R: Read>(entry: &ZipFile<R>) -> Result<()> {
    if entry.compression() == CompressionMethod::Stored {
        return Ok(());
    }
    let message = format!("{} is compressed; torch.save does not do that", entry.name()?);
    Err(damaged(message))
}

impl StoredTensor {
    /// The tensor, given the bytes of its storage.
    fn view(&self, bytes: &[u8]) -> Result<Tensor> {
        let count = (bytes.len() / self.kind.elt_size_in_bytes()) as i64;
        let mut last = Some(self.offset);
        for (size, stride) in self.size.iter().zip(&self.stride) {
            last = last
                .zip((size - 1).max(0).checked_mul(*stride))
                .and_then(|(a, b)| a.checked_add(b));
        }
        let empty = self.size.contains(&0);
        ensure(empty || last.is_some_and(|last| last < count), || {
            let size = &self.size;
            damaged(format!("it is cut short: there are {count} numbers for a tensor of {size:?}"))
        })?;
        let elements = self.size.iter().try_fold(1i64, |n, size| n.checked_mul(*size));
        // A view may repeat its numbers, but no weights repeat a few numbers millions of times.
        ensure(elements.is_some_and(|n| n <= count.max(1 << 24)), || {
            damaged(format!("no encoder has a tensor of {:?}", self.size))
        })?;
        if empty {
            return Ok(Tensor::f_zeros(&self.size, (self.kind, portolan_tensor::Device::Cpu))?);
        }
        let storage = Tensor::f_from_data_size(bytes, &[count], self.kind)?;
        Ok(storage.f_as_strided(&self.size, &self.stride, self.offset)?.f_contiguous()?)
    }
}

/// The deepest nesting of dictionaries.
const MAX_DEPTH: usize = 32;
/// The largest number of tensors. A large checkpoint has some thousands.
const MAX_TENSORS: usize = 100_000;
/// The largest number of bytes of a tensor's or storage's name.
const MAX_NAME: usize = 1024;
/// The largest number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;

/// All tensors in dictionaries with texts as keys.
fn named_tensors(pickle: &Pickle) -> Result<BTreeMap<String, StoredTensor>> {
    let mut tensors = BTreeMap::new();
    let mut open = vec![(String::new(), pickle.root(), 0)];
    let mut looked_at = 0;
    while let Some((name, id, depth)) = open.pop() {
        looked_at += 1;
        let waiting = looked_at + open.len();
        let fits =
            waiting <= 10 * MAX_TENSORS && tensors.len() <= MAX_TENSORS && depth <= MAX_DEPTH;
        ensure(fits, || {
            damaged("its dictionaries are nested or repeated beyond what any checkpoint needs")
        })?;
        if let Some(tensor) = stored_tensor(pickle, id).or_damaged(format!("in `{name}`"))? {
            tensors.insert(name, tensor);
        } else if let Value::Dict(pairs) = pickle.at(id) {
            ensure(pairs.len() <= MAX_TENSORS, || {
                damaged(format!("one of its dictionaries has {} entries", pairs.len()))
            })?;
            // In reverse, since `open` is emptied from its end: the last of equal keys counts, as
            // in Python.
            for (key, value) in pairs.iter().rev() {
                let Some(key) = pickle.text(*key) else { continue };
                ensure(name.len() + key.len() < MAX_NAME, || {
                    damaged(format!(
                        "it has names of more than {MAX_NAME} bytes, which no checkpoint needs"
                    ))
                })?;
                let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                open.push((name, *value, depth + 1));
            }
        }
    }
    Ok(tensors)
}

/// The tensor that this value creates; `None` if it is no tensor.
fn stored_tensor(pickle: &Pickle, mut id: ValueId) -> Result<Option<StoredTensor>> {
    // A parameter wraps a tensor. There are no parameters of parameters.
    for _ in 0..2 {
        let Value::Call(callable, args) = pickle.at(id) else { return Ok(None) };
        let (Some(callable), Some(args)) = (pickle.name(*callable), pickle.tuple(*args)) else {
            return Ok(None);
        };
        match (callable, args) {
            ("_rebuild_parameter", [tensor, ..]) => id = *tensor,
            ("_rebuild_from_type_v2", [_, _, args, ..]) => {
                let args = pickle.tuple(*args).unwrap_or_default();
                return view_of(pickle, args).map(Some);
            }
            ("_rebuild_tensor" | "_rebuild_tensor_v2", args) => {
                return view_of(pickle, args).map(Some);
            }
            _ => return Ok(None),
        }
    }
    Ok(None)
}

/// The view of a storage that these arguments describe: storage, offset, sizes, strides.
fn view_of(pickle: &Pickle, args: &[ValueId]) -> Result<StoredTensor> {
    let [storage, offset, size, stride, ..] = args else {
        return Err(damaged("a tensor's description is cut short"));
    };
    let (storage, kind) = storage_of(pickle, *storage)?.or_damaged("a tensor has no storage")?;
    let integers = |id: ValueId| -> Result<Vec<i64>> {
        let numbers = pickle.tuple(id).or_damaged("a tensor's shape is no tuple")?;
        ensure(numbers.len() <= MAX_DIMENSIONS, || {
            damaged(format!("a tensor has {} dimensions", numbers.len()))
        })?;
        numbers.iter().map(|number| integer(pickle, *number)).collect()
    };
    let (size, stride) = (integers(*size)?, integers(*stride)?);
    ensure(size.len() == stride.len(), || {
        damaged("a tensor's sizes and strides differ in number")
    })?;
    Ok(StoredTensor { storage, kind, offset: integer(pickle, *offset)?, size, stride })
}

/// The key and kind of a storage: ("storage", type, key, device, count), and in old files the
/// storage that it is a part of, or None.
fn storage_of(pickle: &Pickle, id: ValueId) -> Result<Option<(String, Kind)>> {
    let Value::Persistent(id) = pickle.at(id) else { return Ok(None) };
    let Some([_, class, key, others @ ..]) = pickle.tuple(*id) else { return Ok(None) };
    let views = others.get(2).is_some_and(|view| !matches!(pickle.at(*view), Value::Other));
    ensure(!views, || {
        let message = "its storages are parts of others, as PyTorch 0.3 wrote them; save it anew";
        Error::Unsupported(message.to_owned())
    })?;
    let (Some(class), Some(key)) = (pickle.name(*class), pickle.text(*key)) else {
        return Ok(None);
    };
    ensure(key.len() <= MAX_NAME, || damaged(format!("a storage's name has {} bytes", key.len())))?;
    let kind = match class {
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "LongStorage" => Kind::Int64,
        "IntStorage" => Kind::Int,
        "ShortStorage" => Kind::Int16,
        "CharStorage" => Kind::Int8,
        "ByteStorage" => Kind::Uint8,
        "BoolStorage" => Kind::Bool,
        other => {
            let message = format!("numbers of the type {other} are unknown here");
            return Err(Error::Unsupported(message));
        }
    };
    Ok(Some((key.to_owned(), kind)))
}

/// The kinds of all storages, also of those without a named tensor.
fn storage_kinds(pickle: &Pickle) -> Result<BTreeMap<String, Kind>> {
    let all = (0..pickle.values().len()).filter_map(|id| storage_of(pickle, id).transpose());
    all.collect()
}

/// An integer that is not negative.
fn integer(pickle: &Pickle, id: ValueId) -> Result<i64> {
    match pickle.at(id) {
        Value::Int(number) if *number >= 0 => Ok(*number),
        other => Err(damaged(format!("a tensor's description has {other:?} where a size belongs"))),
    }
}
