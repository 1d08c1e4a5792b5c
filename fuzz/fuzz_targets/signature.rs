//! libFuzzer's entry to [`monsys_fuzz::signature`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::signature(bytes));
