//! libFuzzer's entry to [`monsys_fuzz::token_command_stderr`].
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| monsys_fuzz::token_command_stderr(bytes));
