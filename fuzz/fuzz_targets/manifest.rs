//! Any bytes as `bundle.json`. What is read must be written and read back the same.

#![no_main]

use bms_bundle::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = Manifest::parse(data) {
        let bytes = manifest.to_bytes().expect("what was read is valid");
        assert_eq!(Manifest::parse(&bytes).expect("what was written is read"), manifest);
    }
});
