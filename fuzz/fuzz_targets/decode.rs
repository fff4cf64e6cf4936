#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| portolan_fuzz::decode(bytes));
