use super::*;

/// A checkout with nothing but the limits.
fn checkout() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(crate::root().join(limits::SOURCE)).unwrap();
    write(&dir.path().join(limits::SOURCE), &text).unwrap();
    dir
}

fn is_current(root: &Path) -> bool {
    run(root, true, None).unwrap() == ExitCode::SUCCESS
}

#[test]
fn a_page_that_is_missing_or_changed_is_out_of_date() {
    let dir = checkout();
    assert!(!is_current(dir.path()));
    run(dir.path(), false, None).unwrap();
    assert!(is_current(dir.path()));
    let page = dir.path().join("docs/reference/errors.md");
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&page, text.replace("404", "405")).unwrap();
    assert!(!is_current(dir.path()));
}

#[test]
fn the_command_line_page_comes_from_the_program() {
    let dir = checkout();
    run(dir.path(), false, Some(Path::new("echo"))).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("docs/reference/cli.md")).unwrap(), "reference\n");
    assert!(run(dir.path(), false, Some(Path::new("false"))).is_err());
}
