//! Any bytes as a pipeline somebody wrote. What is read must be written and read back the same, and checked without a panic.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(pipeline) = bms_bundle::read_pipeline(data) {
        let _ = pipeline.check();
        let _ = (pipeline.task(), pipeline.files(), pipeline.labels());
        // Numbers that JSON cannot write, NaN and infinity, are not read back.
        if pipeline.check().is_ok() {
            let bytes = serde_json::to_vec(&pipeline).expect("what was read can be written");
            assert_eq!(bms_bundle::read_pipeline(&bytes).expect("what was written is read"), pipeline);
        }
    }
});
