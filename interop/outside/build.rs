//! Makes a program of the example in the README of the crate `portolan`, so that the example cannot
//! go stale.

use std::{env, fs, path::Path};

fn main() {
    let readme = Path::new("../../crates/portolan/README.md");
    println!("cargo:rerun-if-changed={}", readme.display());
    let text = fs::read_to_string(readme).expect("the README can be read");
    let (_, rest) = text.split_once("```rust\n").expect("the README has an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    fs::write(Path::new(&out).join("example.rs"), example).expect("the example can be written");
}
