//! Any bytes as a 7z archive, and as the other compressions.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("7z", &[b"7z\xbc\xaf\x27\x1c\0\x04", data].concat()));
    for magic in [&b"BZh9"[..], b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x5d\0\0\x80\0"] {
        drop(scan_bytes("packed", &[magic, data].concat()));
    }
});
