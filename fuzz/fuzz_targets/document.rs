//! Any bytes as settings, Keras configurations, YAML, XML and chat templates.

#![no_main]

use bms_bundle::scan::scan_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(scan_bytes("any", data));
    drop(scan_bytes("xml", &[b"<net version='11'><layers>", data].concat()));
    drop(scan_bytes("yaml", &[b"a: ", data].concat()));
    if let Ok(text) = std::str::from_utf8(data) {
        let settings =
            serde_json::json!({"chat_template": text, "class_name": text, "config": {"vocabulary": text}});
        drop(scan_bytes("json", settings.to_string().as_bytes()));
    }
});
