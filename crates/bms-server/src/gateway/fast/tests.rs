use super::inference;

#[test]
fn paths_name_what_the_router_finds_in_them() {
    let named = |path: &str| inference(path).map(|named| (named.model, named.version));
    let both = |model: &str, version: &str| Some((model.to_owned(), Some(version.to_owned())));
    assert_eq!(named("/v2/models/m/infer"), Some(("m".to_owned(), None)));
    assert_eq!(named("/v2/models/m/versions/3/infer"), both("m", "3"));
    // That it is no number is said by whoever looks for the version.
    assert_eq!(named("/v2/models/m/versions/latest/infer"), both("m", "latest"));
    assert_eq!(named("/v2/models/versions/infer"), Some(("versions".to_owned(), None)));
    assert_eq!(named("/v2/models/infer/infer"), Some(("infer".to_owned(), None)));
    for other in [
        "/v2/models//infer",
        "/v2/models/infer",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/infer",
        "/v2/models/m/versions/3/4/infer",
        "/v2/models/a/b/infer",
        "/v2/models/m/infer/",
        "/v2/models/m",
        "/v1/models/m/infer",
    ] {
        assert_eq!(named(other), None, "{other}");
    }
}
