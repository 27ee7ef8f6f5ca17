use super::*;

fn owned(owner: &str, path: &str) -> Place {
    Place::Owned { owner: owner.into(), path: path.into() }
}

#[test]
fn paths_name_places() {
    assert_eq!(place("0/abc/artifacts/model/MLmodel").unwrap(), owned("abc", "model/MLmodel"));
    assert_eq!(place("0/abc/artifacts").unwrap(), owned("abc", ""));
    assert_eq!(place("/7/models/m-1/artifacts//x").unwrap(), owned("m-1", "x"));
    let version = Place::Version { model: "digits".into(), version: 3, path: "a/b".into() };
    assert_eq!(place("registry/digits/3/a/b").unwrap(), version);
    for bad in ["", "0", "0/abc", "registry/digits", "registry/digits/x", "0/abc/other/x"] {
        assert_eq!(place(bad).unwrap_err().code(), Code::NotFound, "{bad:?}");
    }
}

#[test]
fn sources_are_places_of_this_server() {
    let check = |text: &str, owner: &str, path: &str| {
        assert_eq!(source(text).unwrap(), (owner.to_owned(), path.to_owned()), "{text}");
    };
    check("mlflow-artifacts:/0/abc/artifacts/model", "abc", "model");
    check("mlflow-artifacts://localhost:5000/0/abc/artifacts/model", "abc", "model");
    check("runs:/abc/model/x", "abc", "model/x");
    check("runs:/abc", "abc", "");
    check("models:/m-12", "m-12", "");
    for bad in [
        "s3://bucket/x",
        "/etc/passwd",
        "file:///etc",
        "models:/digits/3",
        "mlflow-artifacts:/registry/a/1",
        "",
    ] {
        assert_eq!(source(bad).unwrap_err().code(), Code::InvalidRequest, "{bad:?}");
    }
}
