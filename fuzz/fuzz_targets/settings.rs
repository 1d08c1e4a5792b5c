//! libFuzzer's entry to [`monsys_fuzz::settings`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::settings(bytes));
