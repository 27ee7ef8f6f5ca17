//! The beginning and the list of files of sealed bundles, their envelopes, and leases.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_bundle::seal::{Envelope, Header, Lease, check_preamble};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(check_preamble(data));
    drop(check_preamble(&[b"BMSSEAL1", data].concat()));
    drop(Header::parse(data));
    drop(Envelope::parse(data));
    drop(Lease::parse(data));
    // What is inside the signed statements, which nobody would get to otherwise.
    let said = STANDARD.encode(data);
    for kind in ["sealed-keys.v1", "lease.v1"] {
        let statement = format!(
            r#"{{"payloadType":"application/vnd.bms.{kind}+json","payload":"{said}","signatures":[{{"sig":"","keyid":""}}]}}"#
        );
        drop(Envelope::parse(statement.as_bytes()));
        drop(Lease::parse(statement.as_bytes()));
    }
});
