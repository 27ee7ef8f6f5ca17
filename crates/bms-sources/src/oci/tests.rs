use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn manifest(layers: &str) -> Result<Manifest> {
    parse_manifest(format!(r#"{{"schemaVersion": 2, "config": {{}}, "layers": [{layers}]}}"#).as_bytes())
}

#[test]
fn a_layer_is_named_by_annotation_or_type() {
    let titled = format!(
        r#"{{"mediaType": "application/octet-stream", "digest": "{DIGEST}", "size": 0,
            "annotations": {{"org.opencontainers.image.title": "a/b.bin"}}}}"#
    );
    let packed = format!(
        r#"{{"mediaType": "application/vnd.cncf.model.weight.v1.raw", "digest": "{DIGEST}", "size": 5,
            "annotations": {{"org.cncf.model.filepath": "w.safetensors"}}}}"#
    );
    let ollama =
        format!(r#"{{"mediaType": "application/vnd.ollama.image.model", "digest": "{DIGEST}", "size": 7}}"#);
    let Ok(Manifest::Files(files)) = manifest(&[titled, packed, ollama].join(",")) else { panic!() };
    let names: Vec<_> = files.iter().map(|(name, size, _)| (name.as_str(), *size)).collect();
    assert_eq!(names, [("a/b.bin", 0), ("w.safetensors", 5), ("model.gguf", 7)]);
}

#[test]
fn what_is_not_understood_is_refused() {
    let layer = |kind: &str| format!(r#"{{"mediaType": "{kind}", "digest": "{DIGEST}", "size": 1}}"#);
    for kind in
        ["application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.kitops.modelkit.model.v1.tar", "x/y"]
    {
        assert_eq!(manifest(&layer(kind)).unwrap_err().code(), Code::UnsupportedModel, "{kind}");
    }
    for bad in
        [r#"{"digest": "sha256:12", "size": 1}"#, r#"{"digest": "md5:12", "size": 1}"#, r#"{"size": 1}"#, "7"]
    {
        let titled = bad.replace('}', r#", "annotations": {"org.opencontainers.image.title": "a"}}"#);
        assert_eq!(manifest(&titled).unwrap_err().code(), Code::InvalidInput, "{bad}");
    }
    let index = |count: usize| {
        let one = format!(r#"{{"mediaType": "m", "digest": "{DIGEST}", "size": 1}}"#);
        parse_manifest(format!(r#"{{"manifests": [{}]}}"#, vec![one; count].join(",")).as_bytes())
    };
    assert_eq!(index(1).unwrap(), Manifest::Index(DIGEST[7..].to_owned()));
    assert_eq!(index(2).unwrap_err().code(), Code::UnsupportedModel);
}

#[test]
fn a_challenge_is_read() {
    let read =
        challenge(r#"Bearer realm="https://a.example/token",service="registry", scope="x:y,z""#).unwrap();
    assert_eq!(read["realm"], "https://a.example/token");
    assert_eq!(read["service"], "registry");
    assert_eq!(read["scope"], "x:y,z");
    assert_eq!(challenge(r#"Basic realm="x""#), None);
    assert_eq!(challenge(r#"Bearer realm="x"#), None);
}
