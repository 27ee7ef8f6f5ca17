//! The names of sources: any text is a source or a refusal, and a source says its name so that it is read back.

#![no_main]

use bms_sources::Source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(source) = Source::parse(text) else { return };
    // What the result is called when nobody says stays in the folder it is written to.
    let name = source.default_name();
    assert!(!name.is_empty() && !name.contains('/'), "{name:?}");
    if !matches!(source, Source::File { .. }) {
        assert_eq!(Source::parse(&source.to_string()).ok(), Some(source));
    }
});
