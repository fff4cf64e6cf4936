//! Tensors in the files that `torch.save` writes: an archive since PyTorch 1.6, one stream before (MoCo's files are of that time).

use anyhow::{Context, Result, bail, ensure};
use portolan_tensor::{Kind, Tensor};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use crate::pickle::{Pickle, StepPlan, Value};

/// How a stream begins: a pickle of PyTorch's magic number, 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 15] =
    [0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];
/// The most bytes of a pickle: it holds names and shapes alone.
const PICKLE: u64 = 1 << 28;

/// A tensor as a file describes it: a view of a storage.
#[derive(Clone, Debug)]
struct Described {
    storage: String,
    kind: Kind,
    offset: i64,
    size: Vec<i64>,
    stride: Vec<i64>,
}

/// Where the storages lie.
enum Storages {
    /// Entries of an archive, below this folder.
    Archive(ZipArchive<BufReader<File>>, String),
    /// One after the other; where each one's numbers begin, and how many bytes they take.
    Stream(BufReader<File>, BTreeMap<String, (u64, u64)>),
}

/// An opened file: its tensors by name, the keys of nested dictionaries joined with dots.
pub(crate) struct Pth {
    tensors: BTreeMap<String, Described>,
    storages: Storages,
    /// The storage that was read last, by its key: tensors may share one.
    last: Option<(String, Vec<u8>)>,
}

impl Pth {
    /// Reads names and shapes; the numbers stay in the file.
    ///
    /// # Errors
    /// When the file is none of `torch.save`, is cut short, or would have Python run what no checkpoint needs.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::of(file).with_context(|| format!("{} cannot be used", path.display()))
    }

    fn of(file: File) -> Result<Self> {
        let mut file = BufReader::new(file);
        match file.fill_buf()? {
            start if start.starts_with(b"PK") => Self::of_archive(file),
            start if start.starts_with(&MAGIC) => Self::of_stream(file),
            _ => bail!("it is neither a safetensors file nor one that torch.save wrote"),
        }
    }

    fn of_archive(file: BufReader<File>) -> Result<Self> {
        let mut archive = ZipArchive::new(file).context("its archive is cut short or damaged")?;
        let names: Vec<String> =
            archive.file_names().map(|name| Ok(name?.into_owned())).collect::<Result<_>>()?;
        let pickle = names.iter().find(|name| name.ends_with("/data.pkl"));
        let pickle = pickle
            .context("it is an archive, but not one that torch.save wrote: it has no data.pkl")?;
        let folder = pickle.trim_end_matches("data.pkl").to_owned();
        if let Ok(mut order) = archive.by_name(&format!("{folder}byteorder")) {
            let mut text = String::new();
            order.by_ref().take(16).read_to_string(&mut text)?;
            ensure!(text == "little", "its numbers are {text}-endian; save it on another machine");
        }
        let pickle = archive.by_name(pickle)?;
        uncompressed(&pickle)?;
        let contents = Pickle::read(&mut BufReader::new(pickle.take(PICKLE)))?;
        let tensors = named_tensors(&contents)?;
        Ok(Pth { tensors, storages: Storages::Archive(archive, folder), last: None })
    }

    fn of_stream(mut file: BufReader<File>) -> Result<Self> {
        file.seek_relative(MAGIC.len() as i64)?;
        let length = file.get_ref().metadata()?.len();
        let mut next = || Pickle::read(&mut file.by_ref().take(PICKLE));
        let (_protocol, _system, contents, keys) = (next()?, next()?, next()?, next()?);
        let Value::List(listed) = keys.at(keys.root()) else {
            bail!("it does not list its storages")
        };
        let kinds = storage_kinds(&contents)?;
        let mut places = BTreeMap::new();
        for key in listed {
            let key = keys.text(*key).context("one of its storages has no name")?.to_owned();
            let kind =
                kinds.get(&key).with_context(|| format!("no tensor has its storage {key}"))?;
            let mut count = [0; 8];
            file.read_exact(&mut count).context("it is cut short")?;
            let bytes = u64::from_le_bytes(count)
                .checked_mul(kind.elt_size_in_bytes() as u64)
                .filter(|bytes| *bytes <= length)
                .context("it is cut short or damaged")?;
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
        let of = self.tensors.get(name).with_context(|| format!("there is no `{name}`"))?.clone();
        let (_, bytes) = match self.last.take().filter(|(key, _)| *key == of.storage) {
            Some(last) => self.last.insert(last),
            None => {
                let bytes = self.storages.read(&of.storage);
                self.last
                    .insert((of.storage.clone(), bytes.with_context(|| format!("in `{name}`"))?))
            }
        };
        of.view(bytes).with_context(|| format!("in `{name}`"))
    }
}

impl Storages {
    fn read(&mut self, key: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Storages::Archive(archive, folder) => {
                let mut entry = archive
                    .by_name(&format!("{folder}data/{key}"))
                    .with_context(|| format!("the archive lacks the storage {key}"))?;
                uncompressed(&entry)?;
                entry.read_to_end(&mut bytes).context("the numbers are damaged")?;
            }
            Storages::Stream(file, places) => {
                let (start, length) = *places
                    .get(key)
                    .with_context(|| format!("the file lacks the storage {key}"))?;
                file.seek(SeekFrom::Start(start))?;
                file.take(length).read_to_end(&mut bytes)?;
            }
        }
        Ok(bytes)
    }
}

/// torch.save compresses nothing, so that what an entry holds cannot exceed the file.
fn uncompressed<R: Read>(entry: &ZipFile<R>) -> Result<()> {
    ensure!(
        entry.compression() == CompressionMethod::Stored,
        "{} is compressed; torch.save does not do that",
        entry.name()?
    );
    Ok(())
}

impl Described {
    /// The tensor that sees these bytes so.
    fn view(&self, bytes: &[u8]) -> Result<Tensor> {
        let count = (bytes.len() / self.kind.elt_size_in_bytes()) as i64;
        let mut last = Some(self.offset);
        for (size, stride) in self.size.iter().zip(&self.stride) {
            last = last
                .zip((size - 1).max(0).checked_mul(*stride))
                .and_then(|(a, b)| a.checked_add(b));
        }
        let empty = self.size.contains(&0);
        ensure!(
            empty || last.is_some_and(|last| last < count),
            "it is cut short: there are {count} numbers for a tensor of {:?}",
            self.size
        );
        let elements = self.size.iter().try_fold(1i64, |n, size| n.checked_mul(*size));
        // A view may repeat its numbers, but a network's weights do not repeat few of them millions of times.
        ensure!(
            elements.is_some_and(|n| n <= count.max(1 << 24)),
            "no encoder has a tensor of {:?}",
            self.size
        );
        if empty {
            return Ok(Tensor::f_zeros(&self.size, (self.kind, portolan_tensor::Device::Cpu))?);
        }
        let storage = Tensor::f_from_data_size(bytes, &[count], self.kind)?;
        Ok(storage.f_as_strided(&self.size, &self.stride, self.offset)?.f_contiguous()?)
    }
}

/// Dictionaries in dictionaries: more no checkpoint has.
const DEPTH: usize = 32;
/// Names of tensors, whatever a file says; a large network with all that surrounds it has some thousands.
const TENSORS: usize = 100_000;
/// Bytes of a tensor's whole name, and of a storage's.
const NAME: usize = 1024;
/// Dimensions of a tensor.
const DIMENSIONS: usize = 8;

/// All tensors that lie in dictionaries with texts as keys.
fn named_tensors(pickle: &Pickle) -> Result<BTreeMap<String, Described>> {
    let mut tensors = BTreeMap::new();
    let mut open = vec![(String::new(), pickle.root(), 0)];
    let mut looked_at = 0;
    while let Some((name, place, depth)) = open.pop() {
        looked_at += 1;
        let waiting = looked_at + open.len();
        ensure!(
            waiting <= 10 * TENSORS && tensors.len() <= TENSORS && depth <= DEPTH,
            "its dictionaries are nested or repeated beyond what any checkpoint needs"
        );
        if let Some(tensor) = described(pickle, place).with_context(|| format!("in `{name}`"))? {
            tensors.insert(name, tensor);
        } else if let Value::Dict(pairs) = pickle.at(place) {
            ensure!(pairs.len() <= TENSORS, "one of its dictionaries has {} entries", pairs.len());
            // Backwards, since `open` is emptied from its end: of a key that comes twice the last counts, as in Python.
            for (key, value) in pairs.iter().rev() {
                let Some(key) = pickle.text(*key) else { continue };
                ensure!(
                    name.len() + key.len() < NAME,
                    "it has names of more than {NAME} bytes, which no checkpoint needs"
                );
                let name = if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
                open.push((name, *value, depth + 1));
            }
        }
    }
    Ok(tensors)
}

/// The tensor that is made here, if one is.
fn described(pickle: &Pickle, mut place: StepPlan) -> Result<Option<Described>> {
    // A parameter is a tensor with a mark; of parameters of parameters there are none.
    for _ in 0..2 {
        let Value::Call(callable, args) = pickle.at(place) else { return Ok(None) };
        let (Some(callable), Some(args)) = (pickle.name(*callable), pickle.tuple(*args)) else {
            return Ok(None);
        };
        match (callable, args) {
            ("_rebuild_parameter", [tensor, ..]) => place = *tensor,
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
fn view_of(pickle: &Pickle, args: &[StepPlan]) -> Result<Described> {
    let [storage, offset, size, stride, ..] = args else {
        bail!("a tensor's description is cut short")
    };
    let (storage, kind) = storage_of(pickle, *storage)?.context("a tensor has no storage")?;
    let integers = |place: StepPlan| -> Result<Vec<i64>> {
        let numbers = pickle.tuple(place).context("a tensor's shape is no tuple")?;
        ensure!(numbers.len() <= DIMENSIONS, "a tensor has {} dimensions", numbers.len());
        numbers.iter().map(|number| integer(pickle, *number)).collect()
    };
    let (size, stride) = (integers(*size)?, integers(*stride)?);
    ensure!(size.len() == stride.len(), "a tensor's sizes and strides differ in number");
    Ok(Described { storage, kind, offset: integer(pickle, *offset)?, size, stride })
}

/// The key and kind of a storage: ("storage", type, key, device, count), and in old files what it is a part of, or None.
fn storage_of(pickle: &Pickle, place: StepPlan) -> Result<Option<(String, Kind)>> {
    let Value::Persistent(id) = pickle.at(place) else { return Ok(None) };
    let Some([_, class, key, others @ ..]) = pickle.tuple(*id) else { return Ok(None) };
    let views = others.get(2).is_some_and(|view| !matches!(pickle.at(*view), Value::Other));
    ensure!(!views, "its storages are parts of others, as PyTorch 0.3 wrote them; save it anew");
    let (Some(class), Some(key)) = (pickle.name(*class), pickle.text(*key)) else {
        return Ok(None);
    };
    ensure!(key.len() <= NAME, "a storage's name has {} bytes", key.len());
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
        other => bail!("numbers of the type {other} are unknown here"),
    };
    Ok(Some((key.to_owned(), kind)))
}

/// The kinds of all storages, also of those that no named tensor sees.
fn storage_kinds(pickle: &Pickle) -> Result<BTreeMap<String, Kind>> {
    let all = (0..pickle.values().len()).filter_map(|place| storage_of(pickle, place).transpose());
    all.collect()
}

/// A number that is not negative.
fn integer(pickle: &Pickle, place: StepPlan) -> Result<i64> {
    match pickle.at(place) {
        Value::Int(number) if *number >= 0 => Ok(*number),
        other => bail!("a tensor's description has {other:?} where a size belongs"),
    }
}
