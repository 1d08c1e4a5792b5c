//! libFuzzer's entry to [`monsys_fuzz::agent_files`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::agent_files(bytes));
