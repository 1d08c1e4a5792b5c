//! libFuzzer's entry to [`monsys_fuzz::machine`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::machine(bytes));
