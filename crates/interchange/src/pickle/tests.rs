//! Pickles as Python writes them, and malformed ones.
#![allow(clippy::unwrap_used)]

use super::*;

fn of(bytes: &[u8]) -> Result<Pickle> {
    Pickle::read(&mut &bytes[..])
}

fn refused(bytes: &[u8]) -> String {
    of(bytes).expect_err("a pickle to be refused").to_string()
}

#[test]
fn what_would_be_called_is_refused_by_its_name() {
    // Named in the operation, and by texts on the stack as in protocol 4.
    for harm in [
        &b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."[..],
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93.",
    ] {
        let error = refused(harm);
        assert!(
            error.contains("`posix.system`") && error.contains("nothing was executed"),
            "{error}"
        );
    }
    assert!(refused(b"ctorch.x\nos.fakeStorage\n.").contains("os.fakeStorage"));
    assert!(of(b"\x80\x02ccollections\nOrderedDict\n)R.").is_ok());
}

#[test]
fn what_is_put_into_a_dictionary_late_is_in_it_wherever_it_is_mentioned() {
    // d = {}; [d, d] with d["a"] = 513 set in between.
    let pickle = of(b"\x80\x02](}q\x00X\x01\x00\x00\x00aM\x01\x02sh\x00e.").unwrap();
    let Value::List(both) = pickle.at(pickle.root()) else { panic!("a list") };
    assert_eq!(both[0], both[1]);
    let Value::Dict(pairs) = pickle.at(both[1]) else { panic!("a dictionary") };
    assert_eq!((pickle.text(pairs[0].0), pickle.at(pairs[0].1)), (Some("a"), &Value::Int(513)));
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
fn towers_and_avalanches_cost_their_own_length() {
    // A million nested lists; and two hundred lists, each of which holds the one before it twice.
    let tower = [vec![b']'; 1_000_000], vec![b'a'; 999_999], vec![b'.']].concat();
    assert_eq!(of(&tower).unwrap().values().len(), 1_000_000);
    let mut avalanche = b"]q\x00".to_vec();
    for n in 0..200u8 {
        avalanche.extend([b']', b'(', b'h', n, b'h', n, b'e', b'q', n + 1]);
    }
    avalanche.push(b'.');
    assert_eq!(of(&avalanche).unwrap().values().len(), 201);
}

#[test]
fn lengths_are_not_believed() {
    for bytes in [
        &b"\x80\x02X\xff\xff\xff\xffab."[..],
        b"\x8a\xff\x01.",
        b"\x80\x02X\x09\x00\x00\x00ab.",
        b"?",
        b"t.",
        b"h\x00.",
    ] {
        assert!(of(bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn numbers_have_their_signs() {
    let number = |bytes: &[u8]| of(bytes).unwrap().values.into_iter().next().unwrap();
    assert_eq!(number(b"J\xfe\xff\xff\xff."), Value::Int(-2));
    assert_eq!(number(b"\x8a\x01\xfe."), Value::Int(-2));
    assert_eq!(number(b"\x8a\x05\x00\x00\x00\x00\x01."), Value::Int(1 << 32));
    assert_eq!(number(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."), Value::Other);
}
