//! libFuzzer's entry to [`monsys_fuzz::os_release`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::os_release(bytes));
