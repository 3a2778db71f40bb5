//! Feeds libFuzzer's inputs to `dunlin_fuzz::file_message`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::file_message(input));
