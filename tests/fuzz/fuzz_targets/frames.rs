//! Streams of frames, cut in pieces.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| macula_fuzz::frames(data));
