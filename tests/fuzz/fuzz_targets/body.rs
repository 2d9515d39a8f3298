//! Bodies in MessagePack.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| macula_fuzz::body(data));
