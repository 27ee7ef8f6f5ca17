//! Any bytes as an archive or compressed file.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("zip", &[b"PK\x03\x04", data].concat()));
    drop(scan_bytes("gzip", &[b"\x1f\x8b\x08", data].concat()));
    drop(scan_bytes("any", data));
});
