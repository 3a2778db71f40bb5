//! Feeds libFuzzer's inputs to `dunlin_fuzz::holder_store`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::holder_store(input));
