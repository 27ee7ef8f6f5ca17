use super::*;

#[test]
fn what_is_added_is_real_once_and_never_everything() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    std::fs::create_dir(&model).unwrap();
    std::os::unix::fs::symlink(&model, dir.path().join("link")).unwrap();
    let mut confinement = Confinement::new(64);
    let before = confinement.readable.len();
    confinement.read(&dir.path().join("link")).unwrap();
    confinement.read(&model.join("../model")).unwrap();
    confinement.read(Path::new("/")).unwrap();
    assert_eq!(confinement.readable[before..], [model.canonicalize().unwrap()]);
    assert!(confinement.read(&dir.path().join("none")).is_err());
    confinement.read_if_there(&dir.path().join("none"));
    assert_eq!(confinement.readable.len(), before + 1);
}

#[test]
fn what_everybody_needs_holds_no_secrets() {
    let confinement = Confinement::new(64);
    for secret in ["/etc/passwd", "/etc/shadow", "/root", "/home", "/proc/1/environ", "/tmp", "/var/lib"] {
        assert!(!confinement.readable.iter().any(|root| Path::new(secret).starts_with(root)), "{secret}");
    }
    assert!(confinement.writable.iter().all(|path| path == Path::new("/dev/null")));
}
