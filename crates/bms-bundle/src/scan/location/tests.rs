use super::fault;

#[test]
fn names_that_stay_in_the_folder_are_fine() {
    for name in ["weights.bin", "data/weights.bin", "model.onnx.data", "a..b", ".hidden", "权重"] {
        assert_eq!(fault(name), None, "{name:?}");
    }
}

#[test]
fn names_that_lead_elsewhere_are_not() {
    for name in [
        "../x",
        "a/../../x",
        "a\\..\\x",
        "..",
        "/etc/passwd",
        "\\\\server\\share",
        "C:\\x",
        "c:x",
        "http://x/y",
        "file:///etc/passwd",
        "weights\0.bin",
        "~/x",
        "$HOME/x",
        "%TEMP%/x",
        ".. /x",
        ".../x",
    ] {
        assert!(fault(name).is_some(), "{name:?}");
    }
}
