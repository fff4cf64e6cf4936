//! The allocator's settings belong to the process and hold for large blocks of its main thread, so
//! that this is a program of its own without the test harness and its threads.
#![allow(clippy::unwrap_used)]

use portolan_tensor::keep_freed_memory;

/// The minor page faults of this process so far.
fn faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Freed memory is reused without page faults.
fn main() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return;
    }
    keep_freed_memory();
    let work = || drop(std::hint::black_box(vec![1u8; 64 << 20])); // 16,384 pages
    work();
    let before = faults();
    work();
    assert!(faults() - before < 1000, "{} page faults", faults() - before);
}
