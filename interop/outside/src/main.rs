//! The example of the crate's README.

include!(concat!(env!("OUT_DIR"), "/example.rs"));
