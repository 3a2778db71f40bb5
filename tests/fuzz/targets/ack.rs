//! Feeds libFuzzer's inputs to `dunlin_fuzz::ack`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::ack(input));
