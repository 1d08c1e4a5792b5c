//! libFuzzer's entry to [`monsys_fuzz::own_files`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::own_files(bytes));
