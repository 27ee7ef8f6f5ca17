use super::*;

#[test]
fn paths_are_told_from_other_words() {
    let text = "`crates/a` and `b.rs` and `/v2/x/{y}` and `a::b` and `docs/c.md`\n\
                ```text\n`x/y`\n```\n\
                | path | what |\n|---|---|\n| `xtask` | `tidy`, `d/e` |\n\n| word | what |\n| `slot` | x |\n";
    assert_eq!(backticked(text), [(1, "crates/a"), (1, "docs/c.md"), (7, "xtask"), (7, "d/e")]);
}

#[test]
fn links_are_found_without_anchors() {
    let text =
        "[a](docs/a.md#part) [b](https://example.org/x) [c](#here)\n![d](d.png \"D\")\n```\n[e](e)\n```\n";
    assert_eq!(links(text), [(1, "docs/a.md"), (2, "d.png")]);
}

#[test]
fn what_does_not_exist_is_a_problem() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("docs/adr")).unwrap();
    std::fs::write(dir.path().join("docs/adr/one.md"), "").unwrap();
    let sources = Sources::of(&[
        ("ARCHITECTURE.md", "`docs/adr` is there, `docs/gone` is not"),
        ("CONTRIBUTING.md", "[one](docs/adr/one.md)"),
        ("SECURITY.md", "[gone](docs/adr/gone.md)"),
        ("docs/adr/two.md", "[one](one.md) [up](../adr/one.md) [no](docs/adr/one.md) `not/a/map`"),
    ]);
    let found: Vec<_> = check(&sources, dir.path()).iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "ARCHITECTURE.md:1: names `docs/gone`, which does not exist",
            "SECURITY.md:1: the link leads to `docs/adr/gone.md`, which does not exist",
            "docs/adr/two.md:1: the link leads to `docs/adr/one.md`, which does not exist",
        ]
    );
}

#[test]
fn a_missing_map_is_a_problem() {
    assert_eq!(check(&Sources::of(&[]), Path::new(".")).len(), MAPS.len());
}

#[test]
fn places_kept_for_a_missing_text_are_found() {
    let (open, text) = ("@@", "x\n```text\n@@DEMO@@\n```\na@@b@@c @@ D @@\n");
    assert_eq!(marks(text), [(3, "DEMO")]);
    let document = format!("{open}TABLE_1{open}").replace("_1", "_ONE");
    assert_eq!(check(&Sources::of(&[("docs/a.md", &document)]), Path::new(".")).len(), 1 + MAPS.len());
}
