//! libFuzzer's entry to [`monsys_fuzz::hub_reply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::hub_reply(bytes));
