#![allow(clippy::unwrap_used)]

use super::*;

fn launch(set: &[(&str, &str)]) -> Result<Option<Launch>> {
    let usual = [
        ("RANK", "1"),
        ("WORLD_SIZE", "2"),
        ("MASTER_ADDR", "localhost"),
        ("MASTER_PORT", "29500"),
    ];
    Launch::from(|name| {
        let of = |list: &[(&str, &str)]| {
            list.iter().find(|entry| entry.0 == name).map(|entry| entry.1.to_owned())
        };
        of(set).or_else(|| of(&usual)).filter(|value| !value.is_empty())
    })
}

#[test]
fn the_environment_is_read_as_torchrun_writes_it() {
    let read = launch(&[("LOCAL_RANK", "1")]).unwrap().unwrap();
    assert_eq!((read.rank, read.local_rank, read.world_size, read.port), (1, 1, 2, 29500));
    assert_eq!(read.agent_attempt, None);
    let agent = [("TORCHELASTIC_USE_AGENT_STORE", "True"), ("TORCHELASTIC_RESTART_COUNT", "3")];
    assert_eq!(launch(&agent).unwrap().unwrap().agent_attempt, Some(3));
    assert_eq!(launch(&[("WORLD_SIZE", "")]).unwrap(), None);
    assert_eq!(launch(&[("WORLD_SIZE", "1")]).unwrap(), None);
    for (wrong, word) in [
        (("RANK", "2"), "RANK is 2"),
        (("MASTER_ADDR", ""), "MASTER_ADDR is not"),
        (("MASTER_PORT", "x"), "MASTER_PORT"),
    ] {
        assert!(launch(&[wrong]).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn alone_what_is_collective_changes_nothing() {
    let x = Tensor::from_slice(&[1f32, 2.0]);
    assert_eq!((rank(), world_size()), (0, 1));
    assert_eq!(sum(&x).unwrap(), x);
    assert_eq!(all_gather(&x).unwrap(), x);
    assert_eq!(all_gather_ragged(&x).unwrap(), x);
    assert!(Reducer::new(&[x]).unwrap().is_none());
}
