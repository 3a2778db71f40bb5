//! Feeds libFuzzer's inputs to `dunlin_fuzz::rumours`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::rumours(input));
