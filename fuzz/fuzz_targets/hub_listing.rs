//! Listings of a hub: any bytes are a page or a refusal, and a file in a page has a digest.

#![no_main]

use bms_sources::{Expected, parse_page};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(page) = parse_page(bytes) else { return };
    assert!(page.iter().all(|entry| entry.is_folder || entry.expected != Expected::Unknown));
});
