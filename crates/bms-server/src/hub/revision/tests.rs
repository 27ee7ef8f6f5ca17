use super::*;

fn version(number: u64, aliases: &[&str], stage: &str) -> Version {
    Version {
        version: number,
        digest: "ab".repeat(32),
        aliases: aliases.iter().map(|name| (*name).to_owned()).collect(),
        stage: stage.to_owned(),
        ..Version::default()
    }
}

#[test]
fn a_revision_means_one_version() {
    let versions =
        [version(3, &[], "none"), version(2, &["champion", "v9"], "Staging"), version(1, &[], "Staging")];
    for (revision, number) in [
        ("main", Some(2)),
        ("champion", Some(2)),
        ("latest", Some(3)),
        ("1", Some(1)),
        ("v1", Some(1)),
        ("v9", Some(2)),
        ("staging", Some(2)),
        ("none", None),
        ("7", None),
        ("v", None),
        ("", None),
        ("refs/pr/1", None),
    ] {
        assert_eq!(named(&versions, revision), number, "{revision}");
    }
    assert_eq!(named(&versions[..1], "main"), Some(3));
    assert_eq!(named(&[], "main"), None);
}

#[test]
fn a_commit_names_digest_and_files() {
    let one = commit(&version(1, &[], "none"));
    assert!(is_commit(&one) && one.starts_with(&"ab".repeat(10)), "{one}");
    let mut with_file = version(1, &[], "none");
    with_file.files.push(bms_wire::api::FileRef { path: "a".into(), size: 1, blake3: "cd".repeat(32) });
    assert_ne!(commit(&with_file), one);
}
