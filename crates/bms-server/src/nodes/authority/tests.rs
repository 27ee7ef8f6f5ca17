use super::*;

#[test]
fn an_authority_stays_the_same_and_its_file_is_for_this_user_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let first = Authority::load_or_make(&dir.path().join("ca")).unwrap();
    let again = Authority::load_or_make(&dir.path().join("ca")).unwrap();
    assert_eq!(first.pin(), again.pin());
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(key_id_of(first.certificate()), Some(first.pin()));
    let mode = std::fs::metadata(dir.path().join("ca/authority.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = Authority::load_or_make(&dir.path().join("other")).unwrap();
    assert_ne!(first.pin(), other.pin());
}

#[test]
fn a_key_and_a_certificate_of_two_authorities_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (Authority::make().unwrap(), Authority::make().unwrap());
    let (mut a, b): (Kept, Kept) = (serde_json::from_slice(&a).unwrap(), serde_json::from_slice(&b).unwrap());
    a.certificate = b.certificate;
    std::fs::write(dir.path().join(FILE), serde_json::to_vec(&a).unwrap()).unwrap();
    assert_eq!(Authority::load_or_make(dir.path()).unwrap_err().code(), Code::Tampered);
    std::fs::write(dir.path().join(FILE), b"{}").unwrap();
    assert_eq!(Authority::load_or_make(dir.path()).unwrap_err().code(), Code::Tampered);
}

#[test]
fn a_key_is_known_by_its_certificate_and_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::load_or_make(dir.path()).unwrap();
    let key = Key::generate().unwrap();
    let certificate = authority.issue_to_worker("w1", &key.public(), CLOCKS_APART).unwrap();
    assert_eq!(key_id_of(&certificate), Some(key.public().id()));
    assert_eq!(Key::read(&key.secret()).unwrap().public().id(), key.public().id());
    assert!(PublicKey::new(vec![4; 64]).is_err());
    assert!(PublicKey::new(vec![2; 65]).is_err());
}
