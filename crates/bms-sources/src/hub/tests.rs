use super::*;

#[test]
fn a_page_is_read() {
    let (sha1, sha256) = ("a".repeat(40), "B".repeat(64));
    let text = format!(
        r#"[{{"type": "directory", "path": "d", "oid": "x", "size": 0}},
            {{"type": "file", "path": "d/config.json", "oid": "{sha1}", "size": 3, "xetHash": "?"}},
            {{"type": "file", "path": "w", "oid": "{sha1}", "size": 9,
              "lfs": {{"oid": "{sha256}", "size": 9, "pointerSize": 120}}}}]"#
    );
    let page = parse_page(text.as_bytes()).unwrap();
    assert!(page[0].is_folder);
    assert_eq!((page[1].size, &page[1].expected), (3, &Expected::GitBlob(sha1)));
    assert_eq!((page[2].size, &page[2].expected), (9, &Expected::Sha256(sha256.to_lowercase())));
}

#[test]
fn a_page_without_digests_is_refused() {
    for bad in [
        r#"{"error": "x"}"#,
        r#"[{"type": "file", "path": "a", "size": 1}]"#,
        r#"[{"type": "file", "path": "a", "oid": "zz", "size": 1}]"#,
        r#"[{"type": "file", "path": "a", "oid": "", "size": 1, "lfs": {"oid": "12", "size": 1}}]"#,
        r#"[{"type": "link", "path": "a", "oid": "", "size": 1}]"#,
        r#"[{"type": "file", "path": "a", "oid": "", "size": -1}]"#,
        "[",
    ] {
        assert_eq!(parse_page(bad.as_bytes()).unwrap_err().code(), Code::InvalidInput, "{bad}");
    }
}

#[test]
fn the_next_page_is_found() {
    let header = r#"<https://h/a?x=1>; rel="prev", <https://h/a?cursor=2>; rel="next""#;
    assert_eq!(next_page(header).as_deref(), Some("https://h/a?cursor=2"));
    assert_eq!(next_page(r#"<https://h/a>; rel="prev""#), None);
    assert_eq!(next_page("nonsense"), None);
}
