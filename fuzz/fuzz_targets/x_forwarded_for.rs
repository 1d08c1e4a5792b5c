//! libFuzzer's entry to [`monsys_fuzz::x_forwarded_for`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::x_forwarded_for(bytes));
