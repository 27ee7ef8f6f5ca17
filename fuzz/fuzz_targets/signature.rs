//! Any bytes as `model.sig`.

#![no_main]

use bms_bundle::signature::Envelope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(Envelope::parse(data));
});
