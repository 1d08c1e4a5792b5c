//! libFuzzer's entry to [`monsys_fuzz::certificates`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::certificates(bytes));
