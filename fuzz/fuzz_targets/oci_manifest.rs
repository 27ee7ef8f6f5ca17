//! Manifests of an OCI registry: any bytes are files, an index or a refusal, and every digest is one.

#![no_main]

use bms_sources::{Manifest, parse_manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|c| c.is_ascii_hexdigit());
    match parse_manifest(bytes) {
        Ok(Manifest::Files(files)) => assert!(files.iter().all(|(_, _, sha256)| is_digest(sha256))),
        Ok(Manifest::Index(digest)) => assert!(is_digest(&digest)),
        Err(_) => {}
    }
});
