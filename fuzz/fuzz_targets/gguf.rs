//! Any bytes as pairs and tensors of a GGUF file.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("gguf", &[b"GGUF\x03\0\0\0", data].concat()));
});
