//! Any bytes as an HDF5 file, old and new.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for version in [0, 2, 3] {
        drop(scan_bytes("h5", &[b"\x89HDF\r\n\x1a\n", &[version][..], data].concat()));
    }
});
