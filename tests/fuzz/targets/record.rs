//! Feeds libFuzzer's inputs to `dunlin_fuzz::record`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::record(input));
