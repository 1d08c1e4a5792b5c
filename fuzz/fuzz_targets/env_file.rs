//! libFuzzer's entry to [`monsys_fuzz::env_file`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::env_file(bytes));
