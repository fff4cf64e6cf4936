//! Pickles, read without executing anything.
//!
//! A pickle is a program: it names Python functions and calls them. candle's reader calls none and records what would be called;
//! here it is watched step by step, so that a name that no checkpoint needs is refused, and a file that was made to
//! exhaust memory or stack is given up in time.

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::pickle::{Object, OpCode, Stack};
use std::io::{BufRead, Read};

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

/// Values in values in values: more no checkpoint has.
const DEPTH: usize = 64;
/// Values looked at while watching, all together; a ResNet-50 with its optimiser takes some hundred thousand.
const EFFORT: usize = 4_000_000;
/// Bytes of a text: names are short.
const TEXT: usize = 1 << 20;

/// Reads one pickle and leaves `from` behind its end.
///
/// # Errors
/// When it is cut short, is none, names what no checkpoint needs, or nests too deeply.
pub(crate) fn read(from: &mut impl BufRead) -> Result<Object> {
    let mut stack = Stack::empty();
    let mut effort = 0;
    loop {
        let start = from.fill_buf()?;
        ensure!(!start.is_empty(), "it is cut short");
        let op = start[0];
        // What an operation may take is read first, so that its lengths are known before candle's reader trusts them.
        let mut operation = vec![op];
        take_argument(from, &mut operation)?;
        let ended = stack.read(&mut operation.as_slice()).map_err(|error| anyhow!("{error}"))?;
        if let Some(Object::Class { module_name, class_name }) = stack.stack().last() {
            allow(module_name, class_name)?;
        }
        if let Some(top) = stack.stack().last().filter(|_| nests(op)) {
            look_into(top, DEPTH, &mut effort)?;
        }
        if ended {
            return stack.finalize().map_err(|error| anyhow!("{error}"));
        }
    }
}

/// Reads the operation's code and argument off `from` onto `operation`, which holds the code already.
fn take_argument(from: &mut impl BufRead, operation: &mut Vec<u8>) -> Result<()> {
    let op = operation[0];
    from.consume(1);
    let mut exactly = |from: &mut dyn BufRead, bytes: usize| -> Result<()> {
        let start = operation.len();
        operation.resize(start + bytes, 0);
        from.read_exact(&mut operation[start..]).context("it is cut short")
    };
    let Ok(code) = OpCode::try_from(op) else {
        bail!("it has the operation {op:#04x}, which torch.save does not write")
    };
    match code {
        OpCode::Proto | OpCode::BinInt1 | OpCode::BinGet | OpCode::BinPut => exactly(from, 1),
        OpCode::BinInt2 => exactly(from, 2),
        OpCode::BinInt | OpCode::LongBinGet | OpCode::LongBinPut => exactly(from, 4),
        OpCode::BinFloat => exactly(from, 8),
        OpCode::Long1 => {
            exactly(from, 1)?;
            let bytes = usize::from(operation[1]);
            ensure!(
                bytes <= 8,
                "it has a number of {bytes} bytes, and no checkpoint needs one over 8"
            );
            from.take(bytes as u64).read_to_end(operation)?;
            Ok(())
        }
        OpCode::BinUnicode => {
            exactly(from, 4)?;
            let length =
                u32::from_le_bytes([operation[1], operation[2], operation[3], operation[4]]);
            let length = length as usize;
            ensure!(
                length <= TEXT,
                "it has a text of {length} bytes, and no checkpoint needs one that long"
            );
            from.take(length as u64).read_to_end(operation)?;
            Ok(())
        }
        OpCode::Global => {
            for _ in 0..2 {
                from.take(TEXT as u64).read_until(b'\n', operation)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses the name of a function or class that no checkpoint needs.
fn allow(module: &str, name: &str) -> Result<()> {
    let known = KNOWN.iter().any(|(of, names)| *of == module && names.contains(&name));
    let a_type = module == "torch"
        && (name.ends_with("Storage")
            || name.starts_with("float")
            || name.starts_with("bfloat")
            || name.starts_with("int"));
    ensure!(
        known || a_type || module == "torch.storage" && name.ends_with("Storage"),
        "it would have Python call `{module}.{name}`, which no checkpoint needs; nothing was executed. Where you trust the \
         file, load it in Python and write its weights as safetensors"
    );
    Ok(())
}

/// Whether the operation may have put values into another.
fn nests(op: u8) -> bool {
    use OpCode::{
        Append, Appends, BinGet, BinPersId, Build, Dict, LongBinGet, NewObj, Reduce, SetItem,
        SetItems, Tuple, Tuple1, Tuple2, Tuple3,
    };
    OpCode::try_from(op).is_ok_and(|op| {
        matches!(
            op,
            Append
                | Appends
                | BinGet
                | BinPersId
                | Build
                | Dict
                | LongBinGet
                | NewObj
                | Reduce
                | SetItem
                | SetItems
                | Tuple
                | Tuple1
                | Tuple2
                | Tuple3
        )
    })
}

/// Goes through a value, and gives up where it is too deep or there is too much of it.
fn look_into(value: &Object, depth: usize, effort: &mut usize) -> Result<()> {
    *effort += 1;
    ensure!(
        *effort <= EFFORT && depth > 0,
        "its values are nested or repeated beyond what any checkpoint needs"
    );
    let mut within = |value: &Object| look_into(value, depth - 1, effort);
    match value {
        Object::Tuple(values) | Object::List(values) => values.iter().try_for_each(within),
        Object::Dict(pairs) => {
            pairs.iter().try_for_each(|(key, value)| within(key).and_then(|()| within(value)))
        }
        Object::Reduce { callable, args } | Object::Build { callable, args } => {
            within(callable).and_then(|()| within(args))
        }
        Object::PersistentLoad(id) => within(id),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(bytes: &[u8]) -> Result<Object> {
        read(&mut &bytes[..])
    }

    #[test]
    fn what_would_be_called_is_refused_by_its_name() {
        let error =
            of(b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.").unwrap_err().to_string();
        assert!(
            error.contains("`posix.system`") && error.contains("nothing was executed"),
            "{error}"
        );
        assert!(of(b"\x80\x02ccollections\nOrderedDict\n)R.").is_ok());
    }

    #[test]
    fn a_pickle_cut_short_anywhere_is_an_error() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aM\x01\x02X\x01\x00\x00\x00bG\x00\x00\x00\x00\x00\x00\x00\x00u.";
        assert!(of(whole).is_ok());
        for end in 0..whole.len() {
            assert!(of(&whole[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn towers_and_avalanches_are_given_up() {
        // A list in a list in a list, and a list that holds the one before it twice, forty times over.
        let tower = [vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
        assert!(of(&tower).unwrap_err().to_string().contains("nested"));
        let mut avalanche = b"]q\x00".to_vec();
        for n in 0..40u8 {
            avalanche.extend([b']', b'q', n + 1, b'(', b'h', n, b'h', n, b'e', b'q', n + 1]);
        }
        avalanche.push(b'.');
        assert!(of(&avalanche).unwrap_err().to_string().contains("repeated"));
    }

    #[test]
    fn lengths_are_not_believed() {
        for bytes in [
            &b"\x80\x02X\xff\xff\xff\xffab."[..],
            b"\x8a\xff\x01.",
            b"\x80\x02X\x09\x00\x00\x00ab.",
            b"?",
        ] {
            assert!(of(bytes).is_err(), "{bytes:?}");
        }
    }
}
