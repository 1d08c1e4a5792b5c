//! libFuzzer's entry to [`monsys_fuzz::retry_after`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::retry_after(bytes));
