//! Any bytes as MessagePack and as an R object.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("msgpack", &[b"\x81\xa6params", data].concat()));
    drop(scan_bytes("rds", &[b"X\n\0\0\0\x02\0\x04\x01\0\0\x02\x03\0", data].concat()));
});
