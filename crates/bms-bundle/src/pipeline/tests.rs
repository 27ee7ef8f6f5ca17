use super::*;

const TOML: &str = r#"
[preprocess]
kind = "picture"
divisor = 1.0
mean = [127.0, 127.0, 127.0]
std = [128.0, 128.0, 128.0]
[[preprocess.steps]]
step = "resize"
width = 224
height = 224
resampler = "pillow_bicubic"
[postprocess]
kind = "labels"
top = 5
"#;

#[test]
fn toml_and_json_are_the_same() {
    let pipeline = read_pipeline(TOML.as_bytes()).unwrap();
    let json = serde_json::to_vec(&pipeline).unwrap();
    assert_eq!(read_pipeline(&json).unwrap(), pipeline);
    assert_eq!(pipeline.task(), "image-classification");
    // The labels are still to come.
    assert_eq!(pipeline.check().unwrap_err().code(), Code::InvalidBundle);
}

#[test]
fn what_no_pipeline_has_is_refused() {
    for (from, to) in [
        ("top = 5", "top = -5"),
        ("top = 5", "shell = \"rm\""),
        ("pillow_bicubic", "mine"),
        ("kind = \"labels\"", "kind = \"python\""),
        ("[postprocess]", "[after]"),
    ] {
        let error = read_pipeline(TOML.replace(from, to).as_bytes()).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{from} {to}");
    }
    assert_eq!(read_pipeline(b"\xff").unwrap_err().code(), Code::InvalidRequest);
    let large = vec![b' '; limits::CONTROL_BODY_BYTES_MAX + 1];
    assert_eq!(read_pipeline(&large).unwrap_err().code(), Code::TooLarge);
}

#[test]
fn the_recipes_of_the_guide_are_pipelines() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/pipelines");
    let mut tasks: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| read_pipeline(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap().task())
        .collect();
    tasks.sort_unstable();
    let expected = ["feature-extraction", "file-classification", "image-classification", "image-to-text"];
    assert_eq!(tasks, [&expected[..], &["object-detection", "voice-activity-detection"]].concat());
}
