//! Policies, times, rotations of keys and orders to release. A policy that is read is written and read back the same.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_bundle::{Order, Policy, PublicKey, Rotation, parse_time, time_text};
use libfuzzer_sys::fuzz_target;

/// The public half of a key nobody has, as it stands in TOML.
const KEY: &str = r"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEcdobjSn+XxBjs0alh1TCMLUcewln\n7SoWVQ8vTRebZWYug4z74kK2bKtyNamCRB5pLo/0Qh9YUrbhhvdc2wVIHQ==\n-----END PUBLIC KEY-----\n";

fuzz_target!(|data: &[u8]| {
    drop(Order::parse(data));
    drop(Rotation::parse(data));
    let said = STANDARD.encode(data);
    for kind in ["quarantine-order.v1", "key-rotation.v1"] {
        let statement = format!(
            r#"{{"payloadType":"application/vnd.bms.{kind}+json","payload":"{said}","signatures":[{{"sig":"","keyid":""}}]}}"#
        );
        drop(Order::parse(statement.as_bytes()));
        drop(Rotation::parse(statement.as_bytes()));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    drop(PublicKey::from_pem(text));
    if let Ok(at_ms) = parse_time(text) {
        assert_eq!(
            parse_time(&time_text(at_ms)).expect("what was written is read"),
            at_ms.div_euclid(1000) * 1000
        );
    }
    let entry = format!("schema = 1\nmode = \"enforce\"\n[[trust]]\nkey = \"{KEY}\"\n{text}");
    for policy in [text, &entry] {
        if let Ok(policy) = Policy::from_toml(policy) {
            let text = policy.to_toml().expect("what was read is valid");
            assert_eq!(Policy::from_toml(&text).expect("what was written is read"), policy);
        }
    }
});
