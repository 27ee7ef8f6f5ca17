use super::*;

#[test]
fn paths_name_resources() {
    let of = |path: &'static str| target(path).map(|target| (target.resource, target.model, target.version));
    assert_eq!(of("/v2"), Some((Resource::Server, None, None)));
    assert_eq!(of("/v2/health/live"), Some((Resource::Alive, None, None)));
    assert_eq!(of("/v2/models/digits"), Some((Resource::Model, Some("digits"), None)));
    assert_eq!(of("/v2/models/digits/ready"), Some((Resource::ModelReady, Some("digits"), None)));
    assert_eq!(of("/v2/models/digits/infer"), Some((Resource::Infer, Some("digits"), None)));
    assert_eq!(of("/v2/models/digits/versions/3"), Some((Resource::Model, Some("digits"), Some("3"))));
    assert_eq!(of("/v2/models/digits/versions/3/infer"), Some((Resource::Infer, Some("digits"), Some("3"))));
    for path in
        ["", "/", "/v1", "/v2/models", "/v2/models/a/b", "/v2/models/a/versions", "/v2/models/a/infer/b"]
    {
        assert_eq!(of(path), None, "{path}");
    }
}
