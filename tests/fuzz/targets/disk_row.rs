//! Feeds libFuzzer's inputs to `dunlin_fuzz::disk_row`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| dunlin_fuzz::disk_row(input));
