//! Feeds libFuzzer's inputs to `dunlin_fuzz::sealed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::sealed(input));
