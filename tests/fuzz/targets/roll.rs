//! Feeds libFuzzer's inputs to `dunlin_fuzz::roll`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::roll(input));
