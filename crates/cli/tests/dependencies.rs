//! Checks the direction of dependencies: a method crate must not depend on other methods, the
//! training loop or the program.
#![allow(clippy::unwrap_used)]

use std::process::Command;

const METHODS: [&str; 12] = [
    "simclr", "moco", "byol", "simsiam", "barlow", "vicreg", "dino", "dinov2", "mae", "distill",
    "bert", "gpt",
];

/// The names of the Portolan crates that `name` depends on.
fn tree(name: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--edges", "normal", "--prefix", "none", "--format", "{p}"])
        .args(["--package", &format!("portolan-{name}")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let first_words = text.lines().filter_map(|line| line.split(' ').next());
    first_words.filter_map(|name| name.strip_prefix("portolan-")).map(str::to_owned).collect()
}

#[test]
fn a_method_crate_does_not_depend_on_others() {
    let methods = METHODS.into_iter().chain(["pretext"]);
    for method in methods.clone() {
        let tree = tree(method);
        assert!(tree.contains(&"tensor".to_owned()), "{method}: {tree:?}");
        for other in methods.clone().filter(|other| *other != method) {
            assert!(!tree.contains(&other.to_owned()), "{method} depends on {other}");
        }
        for above in ["train", "evaluate", "report", "data", "testing"] {
            assert!(!tree.contains(&above.to_owned()), "{method} depends on {above}");
        }
    }
}

#[test]
fn lower_crates_know_nothing_above_them() {
    for (name, never) in [
        ("data", &["tensor", "method", "train"][..]),
        ("augment", &["tensor", "data", "method"]),
        ("losses", &["encoders", "method", "train"]),
        ("evaluate", &["method", "train", "moco"]),
        ("train", &["moco", "simclr", "report"]),
        ("text", &["tensor", "method", "data"]),
        ("sequences", &["images", "data", "evaluate", "text"]),
    ] {
        let tree = tree(name);
        for other in never {
            assert!(!tree.contains(&(*other).to_owned()), "{name} depends on {other}");
        }
    }
}
