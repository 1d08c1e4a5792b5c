//! libFuzzer's entry to [`monsys_fuzz::last_words`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::last_words(bytes));
