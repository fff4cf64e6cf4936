//! Pickles, read without executing anything.
//!
//! A pickle is a program that names Python's functions and calls them. Here it is only taken down what would be called with what, and a
//! name that no checkpoint needs ends the reading. Values lie in a list and refer to each other by their places in it, as in a pickle, so that
//! nothing is copied, and a file that repeats or nests its values without end costs no more than its own length.
//!
//! candle-core has such a reader too. It was tried, and left: it comes with a tensor library that takes longer to compile than the rest of
//! Portolan, forgets what is put into a dictionary after it was first mentioned, and overflows the stack on nested values.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::io::BufRead;

/// What the files of PyTorch and of the methods' authors name: tensors, containers, arguments and random states.
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

/// Values of one pickle; a large network with its optimizer has some hundred thousand.
const VALUES: usize = 10_000_000;
const TOO_MUCH: &str = "it has more values than any checkpoint";
/// Bytes of a text or number: names are short.
const BYTES: usize = 1 << 20;

/// Where in [`Pickle`] a value lies.
pub(crate) type StepPlan = usize;

/// What Python would make.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Int(i64),
    Text(String),
    /// A function or class: module and name.
    Named(String, String),
    Tuple(Vec<StepPlan>),
    List(Vec<StepPlan>),
    Dict(Vec<(StepPlan, StepPlan)>),
    /// A call: of what, with what.
    Call(StepPlan, StepPlan),
    /// What the file's reader is to put in: a storage, by its description.
    Persistent(StepPlan),
    /// None, a truth value, a fraction, bytes: nothing that a tensor's description has.
    Other,
}

/// All values of a pickle.
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: StepPlan,
}

impl Pickle {
    /// Reads one pickle and leaves `from` behind its end.
    ///
    /// # Errors
    /// When it is cut short, is none, or names what no checkpoint needs.
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

    /// What the pickle is of.
    pub(crate) fn root(&self) -> StepPlan {
        self.root
    }

    pub(crate) fn at(&self, place: StepPlan) -> &Value {
        &self.values[place]
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.values
    }

    /// The values of a tuple.
    pub(crate) fn tuple(&self, place: StepPlan) -> Option<&[StepPlan]> {
        match self.at(place) {
            Value::Tuple(values) => Some(values),
            _ => None,
        }
    }

    pub(crate) fn text(&self, place: StepPlan) -> Option<&str> {
        match self.at(place) {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The name of a function or class, without its module.
    pub(crate) fn name(&self, place: StepPlan) -> Option<&str> {
        match self.at(place) {
            Value::Named(_, name) => Some(name),
            _ => None,
        }
    }
}

/// The stack machine that a pickle is a program for (Python's `pickletools` describes its operations).
struct Machine<'a, R> {
    from: &'a mut R,
    values: Vec<Value>,
    stack: Vec<StepPlan>,
    /// How high the stack was where a group of values begins.
    marks: Vec<usize>,
    memo: HashMap<u32, StepPlan>,
}

impl<R: BufRead> Machine<'_, R> {
    fn run(&mut self) -> Result<StepPlan> {
        loop {
            let [op] = self.bytes()?;
            match op {
                b'.' => return self.pop(),
                0x80 => drop(self.bytes::<1>()?), // PROTO
                0x95 => drop(self.bytes::<8>()?), // FRAME
                b'(' => {
                    ensure!(self.marks.len() < VALUES, TOO_MUCH);
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
                b'X' => self.text_of(4)?,
                0x8c => self.text_of(1)?,
                b'T' | b'B' => self.skipped(4)?,
                b'U' | b'C' => self.skipped(1)?,
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
                    let (key, place) = (self.memo.len() as u32, self.top()?);
                    self.remember(key, place)?;
                }
                b'h' => self.get::<1>()?,
                b'j' => self.get::<4>()?,
                _ => self.build(op)?,
            }
        }
    }

    /// The operations that make values of values.
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
                    .context("its stack is empty")?;
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
                    // A dictionary, whatever its class: what it holds is put in later.
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
            // The state of an object: nothing that is looked for.
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
            op => bail!("it has the operation {op:#04x}, which torch.save does not write"),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.from.read_exact(&mut bytes).context("it is cut short")?;
        Ok(bytes)
    }

    /// So many bytes, of which the length is written before in `of` bytes.
    fn counted(&mut self, of: usize) -> Result<Vec<u8>> {
        let length = match of {
            1 => usize::from(self.bytes::<1>()?[0]),
            _ => u32::from_le_bytes(self.bytes()?) as usize,
        };
        ensure!(
            length <= BYTES,
            "it has a text of {length} bytes, and no checkpoint needs one that long"
        );
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes).context("it is cut short")?;
        Ok(bytes)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        ensure!(
            self.values.len() < VALUES,
            "it has more than {VALUES} values, and no checkpoint needs that many"
        );
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<StepPlan> {
        self.stack.pop().context("its stack is empty")
    }

    fn top(&self) -> Result<StepPlan> {
        self.stack.last().copied().context("its stack is empty")
    }

    fn since_mark(&mut self) -> Result<Vec<StepPlan>> {
        let mark = self
            .marks
            .pop()
            .filter(|mark| *mark <= self.stack.len())
            .context("a group does not begin")?;
        Ok(self.stack.split_off(mark))
    }

    fn number<const N: usize>(&mut self) -> Result<()> {
        let number = self.unsigned::<N>()?;
        self.push(Value::Int(i64::from(number)))
    }

    fn unsigned<const N: usize>(&mut self) -> Result<u32> {
        Ok(self.bytes::<N>()?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    /// A whole number of any length; of those that do not fit no tensor's description has one.
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

    fn text_of(&mut self, of: usize) -> Result<()> {
        let text = String::from_utf8(self.counted(of)?).context("a text is not UTF-8")?;
        self.push(Value::Text(text))
    }

    fn skipped(&mut self, of: usize) -> Result<()> {
        self.counted(of)?;
        self.push(Value::Other)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.bytes()? {
                [b'\n'] => return String::from_utf8(line).context("a name is not UTF-8"),
                [byte] => line.push(byte),
            }
            ensure!(line.len() <= BYTES, "it has a name of more than {BYTES} bytes");
        }
    }

    fn pop_text(&mut self) -> Result<String> {
        let place = self.pop()?;
        match &self.values[place] {
            Value::Text(text) => Ok(text.clone()),
            _ => bail!("a function's name is no text"),
        }
    }

    /// Takes down a function or class, if checkpoints need it.
    fn named(&mut self, module: String, name: String) -> Result<()> {
        ensure!(module.len() + name.len() <= 256, "it names a function with a name that none has");
        let known = KNOWN.iter().any(|(of, names)| *of == module && names.contains(&name.as_str()));
        let types = ["float", "bfloat", "int", "uint", "bool"];
        let a_type = module == "torch" && types.iter().any(|start| name.starts_with(start));
        let storage =
            module.starts_with("torch") && name.ends_with("Storage") && !name.contains('.');
        ensure!(
            known || a_type || storage,
            "it would have Python call `{module}.{name}`, which no checkpoint needs; nothing was executed. Where you trust \
             the file, load it in Python and write its weights as safetensors"
        );
        self.push(Value::Named(module, name))
    }

    fn put<const N: usize>(&mut self) -> Result<()> {
        let (key, place) = (self.unsigned::<N>()?, self.top()?);
        self.remember(key, place)
    }

    fn remember(&mut self, key: u32, place: StepPlan) -> Result<()> {
        ensure!(self.memo.len() < VALUES, TOO_MUCH);
        self.memo.insert(key, place);
        Ok(())
    }

    fn get<const N: usize>(&mut self) -> Result<()> {
        let key = self.unsigned::<N>()?;
        let place = *self.memo.get(&key).context("it refers to a value that it does not have")?;
        ensure!(self.stack.len() < VALUES, TOO_MUCH);
        self.stack.push(place);
        Ok(())
    }

    fn extend_list(&mut self, more: Vec<StepPlan>) -> Result<()> {
        let place = self.top()?;
        match &mut self.values[place] {
            Value::List(values) => values.extend(more),
            Value::Call(..) => {} // a set, or what a call made
            _ => bail!("it puts values into something that is no list"),
        }
        Ok(())
    }

    fn extend_dict(&mut self, more: &[StepPlan]) -> Result<()> {
        ensure!(more.len().is_multiple_of(2), "a key has no value");
        let place = self.top()?;
        match &mut self.values[place] {
            Value::Dict(pairs) => pairs.extend(more.chunks(2).map(|pair| (pair[0], pair[1]))),
            Value::Call(..) => {}
            _ => bail!("it puts keys and values into something that is no dictionary"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
