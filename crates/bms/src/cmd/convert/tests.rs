use std::io::Write as _;

use bms_wire::Code;

use super::Partial;

#[test]
fn nothing_but_the_wanted_name_is_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (out, other) = (dir.path().join("model.gguf"), dir.path().join("other"));
    std::fs::write(&other, "theirs").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&other, dir.path().join("model.gguf.partial")).unwrap();
    let mut partial = Partial::create(&out).unwrap();
    partial.0.write_all(b"ours").unwrap();
    partial.publish(&out).unwrap();
    assert_eq!(std::fs::read(&out).unwrap(), b"ours");
    assert_eq!(std::fs::read(&other).unwrap(), b"theirs");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // As any other new file's: the tests' own mask decides.
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&out), mode(&other));
    }
}

#[test]
fn of_two_runs_to_one_file_the_first_stays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("model.gguf");
    let [mut first, second] = [(); 2].map(|()| Partial::create(&out).unwrap());
    first.0.write_all(b"first").unwrap();
    first.publish(&out).unwrap();
    assert_eq!(second.publish(&out).unwrap_err().code(), Code::Conflict);
    assert_eq!(std::fs::read(&out).unwrap(), b"first");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
