//! Any bytes as the graph of an ONNX model.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut length = Vec::new();
    let mut left = data.len();
    while 0x7f < left {
        length.push(left as u8 | 0x80);
        left >>= 7;
    }
    length.push(left as u8);
    drop(scan_bytes("onnx", &[b"\x08\x08\x3a", &length[..], data].concat()));
    drop(scan_bytes("onnx", data));
});
