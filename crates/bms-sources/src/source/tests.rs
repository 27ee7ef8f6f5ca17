use super::*;

#[track_caller]
fn hub_of(text: &str) -> (HubKind, String, Option<String>, Option<String>) {
    match Source::parse(text).unwrap() {
        Source::Hub { kind, repository, revision, path } => (kind, repository, revision, path),
        other => panic!("{other:?}"),
    }
}

#[test]
fn hub_names_are_read() {
    let own = |text: &str| Some(text.to_owned());
    let model = HubKind::Model;
    assert_eq!(hub_of("hf://o/n"), (model, "o/n".into(), None, None));
    assert_eq!(hub_of("hf://models/o/n/"), (model, "o/n".into(), None, None));
    assert_eq!(hub_of("hf://datasets/o/n@v1"), (HubKind::Dataset, "o/n".into(), own("v1"), None));
    assert_eq!(hub_of("hf://o/n@main/a/b.json"), (model, "o/n".into(), own("main"), own("a/b.json")));
    assert_eq!(hub_of("hf://o/n@refs/pr/7/a"), (model, "o/n".into(), own("refs/pr/7"), own("a")));
    assert_eq!(hub_of("hf://o/n@feature%2Fx"), (model, "o/n".into(), own("feature/x"), None));
    assert_eq!(hub_of("hf://digits"), (model, "digits".into(), None, None));
    assert_eq!(hub_of("hf://digits@v3/model.onnx"), (model, "digits".into(), own("v3"), own("model.onnx")));
    for text in [
        "hf://o/n",
        "hf://models/datasets/n",
        "hf://datasets/datasets/n",
        "hf://o/n@feature%2Fx/a",
        "hf://digits@v3/model.onnx",
        "hf://datasets/o/n",
    ] {
        assert_eq!(Source::parse(text).unwrap().to_string(), text);
    }
}

#[test]
fn what_is_no_source_is_refused() {
    for bad in [
        "o/n",
        "ftp://x/y",
        "hf://",
        "hf:///n",
        "hf://../n",
        "hf://o/..",
        "hf://o/n@",
        "hf://o/n@%zz",
        "hf://o/n/../x",
        "hf://o/n//x",
        "hf://o/n@main/a\\b",
        "hf://-o/n",
        "https://",
        "https://u:p@h/f",
        "https://h/",
        "https://h/%2e%2e",
        "https://h/a%2fb",
        "https://h/f#md5=1",
        "https://h/f#sha256=12",
        "file://host/x",
        "oci://h",
        "oci://h/UPPER",
        "oci://h/a/../b",
        "oci://h/n:-x",
        "oci://h/n@md5:1",
        "oci://h@x/n",
    ] {
        assert_eq!(
            Source::parse(bad).map(|s| format!("{s:?}")).unwrap_err().code(),
            Code::InvalidRequest,
            "{bad}"
        );
    }
    assert!(Source::parse(&format!("hf://o/{}", "n".repeat(5000))).is_err());
}

#[test]
fn the_others_are_read() {
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let web =
        Source::parse(&format!("https://h/a/m%20x.gguf?download=true#sha256={}", digest.to_uppercase()));
    let web = web.unwrap();
    assert_eq!(web.default_name(), "m x.gguf");
    assert!(matches!(web, Source::Web { sha256: Some(sha256), .. } if sha256 == digest));
    assert_eq!(
        Source::parse(&format!("oci://localhost:5000/a/b:v1@sha256:{digest}")).unwrap(),
        Source::Oci {
            registry: "localhost:5000".into(),
            repository: "a/b".into(),
            tag: Some("v1".into()),
            digest: Some(format!("sha256:{digest}")),
        }
    );
    assert_eq!(
        Source::parse("file:///tmp/a%20b").unwrap(),
        Source::File { path: std::path::PathBuf::from("/tmp/a b") }
    );
}

#[test]
fn percent_encoding_goes_both_ways() {
    for text in ["a b/ü", "%", "plain-._~"] {
        assert_eq!(decode(&encode(text, false)).as_deref(), Some(text));
    }
    assert_eq!(encode("a/b", true), "a/b");
    assert_eq!(decode("%e2%28"), None);
}
