//! libFuzzer's entry to [`monsys_fuzz::receipt`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::receipt(bytes));
