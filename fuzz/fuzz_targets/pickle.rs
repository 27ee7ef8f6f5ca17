//! Any bytes as the operations of a pickle.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("pickle", &[b"\x80\x04", data].concat()));
    drop(scan_bytes("pickle", data));
});
