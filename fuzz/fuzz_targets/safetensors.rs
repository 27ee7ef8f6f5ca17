//! Any bytes as the header of a safetensors file.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("safetensors", &[&(data.len() as u64).to_le_bytes(), data].concat()));
    drop(scan_bytes("safetensors", data));
});
