//! The filter language of searches: any text is conditions or a refusal, never a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = bms_registry::filter::parse(text);
    let _ = bms_registry::filter::parse_order(text);
});
