//! libFuzzer's entry to [`monsys_fuzz::agent_toml`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::agent_toml(bytes));
