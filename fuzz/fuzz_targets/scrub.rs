//! libFuzzer's entry to [`monsys_fuzz::scrub`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::scrub(bytes));
