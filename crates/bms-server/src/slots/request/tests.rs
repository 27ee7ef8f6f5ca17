use super::inferring;

#[test]
fn paths_name_what_the_router_finds_in_them() {
    let named = inferring;
    let both = |model, version| Some((model, Some(version)));
    assert_eq!(named("/v2/models/m/infer"), Some(("m", None)));
    assert_eq!(named("/v2/models/m/versions/3/infer"), both("m", "3"));
    // That it is no number is said by whoever looks for the version.
    assert_eq!(named("/v2/models/m/versions/latest/infer"), both("m", "latest"));
    assert_eq!(named("/v2/models/versions/infer"), Some(("versions", None)));
    assert_eq!(named("/v2/models/infer/infer"), Some(("infer", None)));
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
