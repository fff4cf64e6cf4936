#![no_main]
libfuzzer_sys::fuzz_target!(
    // Panics of the crate that reads Parquet are caught; libFuzzer's hook would abort before.
    // Others still end the search.
    init: std::panic::set_hook(Box::new(|_| {})),
    |bytes: &[u8]| portolan_fuzz::parquet(bytes)
);
