//! libFuzzer's entry to [`monsys_fuzz::host_header`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::host_header(bytes));
