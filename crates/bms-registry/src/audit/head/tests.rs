use super::*;

fn head(sequence: u64) -> Head {
    Head { sequence, hash: format!("{sequence:064x}") }
}

#[test]
fn it_only_moves_forward() {
    let dir = tempfile::tempdir().unwrap();
    let file = HeadFile::in_folder(dir.path());
    file.begin().unwrap();
    assert_eq!(file.read().unwrap().unwrap().sequence, 0);
    file.advance(&head(3)).unwrap();
    file.advance(&head(2)).unwrap();
    file.begin().unwrap();
    assert_eq!(file.read().unwrap(), Some(head(3)));
}

#[test]
fn evidence_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = HeadFile::in_folder(dir.path());
    file.advance(&head(3)).unwrap();
    assert_eq!(file.read().unwrap(), None, "a missing file is not made again");

    for broken in ["", "{}", "garbage"] {
        fs::write(dir.path().join("audit.head"), broken).unwrap();
        file.advance(&head(3)).unwrap();
        assert_eq!(file.read().unwrap_err().code(), Code::Tampered);
        assert_eq!(fs::read_to_string(dir.path().join("audit.head")).unwrap(), broken);
    }
}
