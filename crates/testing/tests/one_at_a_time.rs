//! libtorch's random generator belongs to the process: tests that share it would change each
//! other's numbers.

#[test]
fn tests_of_a_binary_run_one_at_a_time() {
    let threads = std::env::var("RUST_TEST_THREADS");
    assert_eq!(threads.as_deref(), Ok("1"), "set by .cargo/config.toml");
}
