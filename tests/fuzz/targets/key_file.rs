//! Feeds libFuzzer's inputs to `dunlin_fuzz::key_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::key_file(input));
