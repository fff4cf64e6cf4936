//! Pickles, read without executing anything.
//!
//! A pickle is a program that names Python's functions and calls them. This reader only records
//! which call would be made with which arguments, and refuses names that no checkpoint needs.
//! Values are in a list and refer to each other by index, so that nothing is copied, and a file
//! that repeats or nests its values without end costs no more than its own length.

use std::collections::HashMap;
use std::io::BufRead;

use crate::error::{OrDamaged, damaged, ensure};
use crate::{Error, Result};

/// The functions and classes in checkpoints of PyTorch and of the methods' authors: tensors,
/// containers, arguments and random states.
const KNOWN: [(&str, &[&str]); 12] = [
    ("collections", &["OrderedDict", "defaultdict", "Counter"]),
    ("torch._utils", &["_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"]),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("torch", &["Size", "device", "Tensor"]),
    ("torch.nn.parameter", &["Parameter"]),
    ("torch.serialization", &["_get_layout"]),
    ("argparse", &["Namespace"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("_codecs", &["encode"]),
    ("pathlib", &["Path", "PosixPath", "PurePosixPath"]),
];

/// The largest number of values of one pickle. A large network with its optimizer has some hundred
/// thousand.
const MAX_VALUES: usize = 10_000_000;
const TOO_MANY: &str = "it has more values than any checkpoint";
/// The largest number of bytes of a text or number.
const MAX_BYTES: usize = 1 << 20;

/// The index of a value in a [`Pickle`].
pub(crate) type ValueId = usize;

/// What Python would create.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    /// A function or class: module and name.
    Named(String, String),
    Tuple(Vec<ValueId>),
    List(Vec<ValueId>),
    Dict(Vec<(ValueId, ValueId)>),
    /// A call: the function and its arguments.
    Call(ValueId, ValueId),
    /// A idholder for a storage, with its description.
    Persistent(ValueId),
    /// None, a boolean, a float, bytes: nothing that describes a tensor.
    Other,
}

/// All values of a pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: ValueId,
}

impl Pickle {
    /// Reads one pickle. `from` is then at its end.
    ///
    /// # Errors
    /// When it is cut short, is no pickle, or names a function that no checkpoint needs.
    pub(crate) fn read(from: &mut impl BufRead) -> Result<Self> {
        let mut machine = Machine {
            from,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok(Pickle { values: machine.values, root })
    }

    /// The value that was pickled.
    pub(crate) fn root(&self) -> ValueId {
        self.root
    }

    pub(crate) fn at(&self, id: ValueId) -> &Value {
        &self.values[id]
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The values of a tuple.
    pub(crate) fn tuple(&self, id: ValueId) -> Option<&[ValueId]> {
        match self.at(id) {
            Value::Tuple(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn text(&self, id: ValueId) -> Option<&str> {
        match self.at(id) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a function or class, without its module.
    pub(crate) fn name(&self, id: ValueId) -> Option<&str> {
        match self.at(id) {
            Value::Named(_, name) => Some(name),
            _ => None,
        }
    }
}

/// The stack machine that runs a pickle (Python's `pickletools` describes its operations).
struct Machine<'a, R> {
    from: &'a mut R,
    values: Vec<Value>,
    stack: Vec<ValueId>,
    /// The heights of the stack at which groups of values begin.
    marks: Vec<usize>,
    memo: HashMap<u32, ValueId>,
}

impl<R: BufRead> Machine<'_, R> {
    fn run(&mut self) -> Result<ValueId> {
        loop {
            let [op] = self.bytes()?;
            match op {
                b'.' => return self.pop(),
                0x80 => drop(self.bytes::<1>()?), // PROTO
                0x95 => drop(self.bytes::<8>()?), // FRAME
                b'(' => {
                    ensure(self.marks.len() < MAX_VALUES, || damaged(TOO_MANY))?;
                    self.marks.push(self.stack.len());
                }
                b'N' | 0x88 | 0x89 => self.push(Value::Other)?,
                b'G' => {
                    self.bytes::<8>()?;
                    self.push(Value::Other)?;
                }
                b'K' => self.number::<1>()?,
                b'M' => self.number::<2>()?,
                b'J' => {
                    let number = i32::from_le_bytes(self.bytes()?);
                    self.push(Value::Int(i64::from(number)))?;
                }
                0x8a => self.long()?,
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                b'T' | b'B' => self.skip(4)?,
                b'U' | b'C' => self.skip(1)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.named(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.named(module, name)?;
                }
                b'q' => self.put::<1>()?,
                b'r' => self.put::<4>()?,
                0x94 => {
                    let (key, id) = (self.memo.len() as u32, self.top()?);
                    self.remember(key, id)?;
                }
                b'h' => self.get::<1>()?,
                b'j' => self.get::<4>()?,
                _ => self.build(op)?,
            }
        }
    }

    /// The operations that combine values.
    fn build(&mut self, op: u8) -> Result<()> {
        match op {
            b')' => self.push(Value::Tuple(Vec::new())),
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            0x85..=0x87 => {
                let start = self
                    .stack
                    .len()
                    .checked_sub(usize::from(op) - 0x84)
                    .or_damaged("its stack is empty")?;
                let values = self.stack.split_off(start);
                self.push(Value::Tuple(values))
            }
            b't' => {
                let values = self.since_mark()?;
                self.push(Value::Tuple(values))
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                match self.values[callable] {
                    // A dictionary, whatever its class. Its entries are added later.
                    Value::Named(ref module, _) if module == "collections" => {
                        self.push(Value::Dict(Vec::new()))
                    }
                    _ => self.push(Value::Call(callable, args)),
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id))
            }
            // The state of an object, which no tensor needs.
            b'b' => self.pop().map(drop),
            b'a' => {
                let value = self.pop()?;
                self.extend_list(vec![value])
            }
            b'e' => {
                let values = self.since_mark()?;
                self.extend_list(values)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])
            }
            b'u' => {
                let values = self.since_mark()?;
                self.extend_dict(&values)
            }
            op => Err(damaged(format!(
                "it has the operation {op:#04x}, which torch.save does not write"
            ))),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).or_damaged("it is cut short")?;
        Ok(bytes)
    }

    /// Bytes that follow their length, which is a number of `width` bytes.
    fn counted(&mut self, width: usize) -> Result<Vec<u8>> {
        let length = match width {
            1 => usize::from(self.bytes::<1>()?[0]),
            _ => u32::from_le_bytes(self.bytes()?) as usize,
        };
        ensure(length <= MAX_BYTES, || {
            damaged(format!(
                "it has a text of {length} bytes, and no checkpoint needs one that long"
            ))
        })?;
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).or_damaged("it is cut short")?;
        Ok(bytes)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        ensure(self.values.len() < MAX_VALUES, || {
            damaged(format!(
                "it has more than {MAX_VALUES} values, and no checkpoint needs that many"
            ))
        })?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<ValueId> {
        self.stack.pop().or_damaged("its stack is empty")
    }

    fn top(&self) -> Result<ValueId> {
        self.stack.last().copied().or_damaged("its stack is empty")
    }

    fn since_mark(&mut self) -> Result<Vec<ValueId>> {
        let mark = self
            .marks
            .pop()
            .filter(|mark| *mark <= self.stack.len())
            .or_damaged("a group does not begin")?;
        Ok(self.stack.split_off(mark))
    }

    fn number<const N: usize>(&mut self) -> Result<()> {
        let number = self.unsigned::<N>()?;
        self.push(Value::Int(i64::from(number)))
    }

    fn unsigned<const N: usize>(&mut self) -> Result<u32> {
        Ok(self.bytes::<N>()?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// An integer of any length. One that does not fit into 64 bits describes no tensor.
    fn long(&mut self) -> Result<()> {
        let bytes = self.counted(1)?;
        let negative = bytes.last().is_some_and(|last| *last >= 0x80);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        let value = match bytes.len() {
            0..=8 => {
                wide[..bytes.len()].copy_from_slice(&bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => Value::Other,
        };
        self.push(value)
    }

    fn text(&mut self, width: usize) -> Result<()> {
        let text = String::from_utf8(self.counted(width)?).or_damaged("a text is not UTF-8")?;
        self.push(Value::Text(text))
    }

    fn skip(&mut self, width: usize) -> Result<()> {
        self.counted(width)?;
        self.push(Value::Other)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return String::from_utf8(line).or_damaged("a name is not UTF-8"),
                [byte] => line.push(byte),
            }
            ensure(line.len() <= MAX_BYTES, || {
                damaged(format!("it has a name of more than {MAX_BYTES} bytes"))
            })?;
        }
    }

    fn pop_text(&mut self) -> Result<String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err(damaged("a function's name is no text")),
        }
    }

    /// Records a function or class, if checkpoints need it.
    fn named(&mut self, module: String, name: String) -> Result<()> {
        ensure(module.len() + name.len() <= 256, || {
            damaged("it names a function with a name that none has")
        })?;
        let known = KNOWN.iter().any(|(of, names)| *of == module && names.contains(&name.as_str()));
        let types = ["float", "bfloat", "int", "uint", "bool"];
        let a_type = module == "torch" && types.iter().any(|start| name.starts_with(start));
        let storage =
            module.starts_with("torch") && name.ends_with("Storage") && !name.contains('.');
        ensure(known || a_type || storage, || Error::Unsafe(format!("{module}.{name}")))?;
        self.push(Value::Named(module, name))
    }

    fn put<const N: usize>(&mut self) -> Result<()> {
        let (key, id) = (self.unsigned::<N>()?, self.top()?);
        self.remember(key, id)
    }

    fn remember(&mut self, key: u32, id: ValueId) -> Result<()> {
        ensure(self.memo.len() < MAX_VALUES, || damaged(TOO_MANY))?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<()> {
        let key = self.unsigned::<N>()?;
        let id = *self.memo.get(&key).or_damaged("it refers to a value that it does not have")?;
        ensure(self.stack.len() < MAX_VALUES, || damaged(TOO_MANY))?;
        self.stack.push(id);
        Ok(())
    }

    fn extend_list(&mut self, more: Vec<ValueId>) -> Result<()> {
        let id = self.top()?;
        match &mut self.values[id] {
            Value::List(values) => values.extend(more),
            Value::Call(..) => {} // a set, or another object
            _ => return Err(damaged("it puts values into something that is no list")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, more: &[ValueId]) -> Result<()> {
        ensure(more.len().is_multiple_of(2), || damaged("a key has no value"))?;
        let id = self.top()?;
        match &mut self.values[id] {
            Value::Dict(pairs) => pairs.extend(more.chunks(2).map(|pair| (pair[0], pair[1]))),
            Value::Call(..) => {}
            _ => {
                let message = "it puts keys and values into something that is no dictionary";
                return Err(damaged(message));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
