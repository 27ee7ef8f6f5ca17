//! Any bytes as graphs of TensorFlow, TFLite and Core ML.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("saved_model", &[b"\x08\x01\x12", data].concat()));
    drop(scan_bytes("graph", &[b"\x0a", data].concat()));
    drop(scan_bytes("tflite", &[b"\x10\0\0\0TFL3", data].concat()));
    drop(scan_bytes("coreml", &[b"\x08\x04\x12\0\xa2\x1f", data].concat()));
});
