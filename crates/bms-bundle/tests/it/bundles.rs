//! Writing and opening bundles.

use std::fs;

use bms_bundle::{Bundle, Draft, MANIFEST, Policy, SIGNATURE, SigningKey, sign_dir, write};
use bms_wire::Code;

use crate::samples::{draft, manifest, onnx};

fn code<T: std::fmt::Debug>(result: bms_wire::Result<T>) -> Code {
    result.expect_err("must fail").code()
}

#[test]
fn a_bundle_opens_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/er/bundle");
    let written = draft().write(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.manifest_unverified().unwrap(), written);
    assert_eq!(
        written.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["labels.txt", "model.onnx", "report/curves.json"]
    );
    let manifest_bytes = fs::read(path.join(MANIFEST)).unwrap();
    assert_eq!(bundle.digest(), blake3::hash(&manifest_bytes).to_hex().to_string());
    let on_disk: u64 = written.files.iter().map(|file| file.size).sum();
    assert_eq!(bundle.size_bytes(), on_disk + manifest_bytes.len() as u64);
    // Nothing is left beside it.
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn signing_does_not_change_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write(&path).unwrap();
    let before = Bundle::open(&path).unwrap().digest();
    sign_dir(&path, &SigningKey::generate()).unwrap();
    sign_dir(&path, &SigningKey::generate()).expect("signing again replaces the signature");
    assert!(path.join(SIGNATURE).is_file());
    assert_eq!(Bundle::open(&path).unwrap().digest(), before);
}

#[test]
fn an_existing_folder_is_kept_unless_it_is_a_bundle_to_be_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write(&path).unwrap();
    assert_eq!(code(draft().write(&path)), Code::Conflict);
    let mut other = manifest();
    other.name = "other".to_owned();
    let mut replacement = Draft::new(other).replacing();
    replacement.add("model.onnx", onnx()).unwrap();
    replacement.write(&path).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!(bundle.manifest_unverified().unwrap().name, "other");
    assert_eq!(bundle.files().count(), 2, "no file of the old bundle stays");

    let precious = dir.path().join("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("thesis.txt"), "years of work").unwrap();
    assert_eq!(code(draft().replacing().write(&precious)), Code::Conflict);
    assert!(precious.join("thesis.txt").is_file());
}

#[test]
fn drafts_refuse_bad_names_and_missing_models() {
    for path in ["../x", "/x", MANIFEST, SIGNATURE, "MODEL.SIG", "a\\b", "labels.txt"] {
        assert_eq!(code(draft().add(path, &b""[..]).map(drop)), Code::InvalidBundle, "{path}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    assert_eq!(code(write(&path, manifest(), vec![])), Code::InvalidBundle);
    assert!(!path.exists());
    let mut clash = draft();
    clash.add("LABELS.txt", &b""[..]).unwrap();
    assert_eq!(code(clash.write(&path)), Code::InvalidBundle);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "a failed write leaves nothing");
}

#[test]
fn folders_that_are_no_bundles_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(code(Bundle::open(&dir.path().join("absent"))), Code::NotFound);
    assert_eq!(code(Bundle::open(dir.path())), Code::InvalidBundle);
}

#[test]
fn file_lists_are_checked_like_folders() {
    let file = |path: &str| (path.to_owned(), Vec::new());
    for list in [
        vec![file("model.onnx")],
        vec![file(MANIFEST), file("../x")],
        vec![file(MANIFEST), file("a"), file("a")],
        vec![file(MANIFEST), file("a"), file("A")],
        vec![file(MANIFEST), file("a"), file("a/b")],
    ] {
        let names: Vec<_> = list.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(code(Bundle::from_files(list)), Code::InvalidBundle, "{names:?}");
    }
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_refused() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write(&path).unwrap();
    fs::write(dir.path().join("outside"), "secret").unwrap();

    symlink(dir.path().join("outside"), path.join("link")).unwrap();
    assert_eq!(code(Bundle::open(&path)), Code::InvalidBundle);
    fs::remove_file(path.join("link")).unwrap();

    symlink(dir.path(), path.join("folder")).unwrap();
    assert_eq!(code(Bundle::open(&path)), Code::InvalidBundle);
    fs::remove_file(path.join("folder")).unwrap();

    let socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    assert_eq!(code(Bundle::open(&path)), Code::InvalidBundle);
    drop(socket);
    fs::remove_file(path.join("socket")).unwrap();
    Bundle::open(&path).expect("opens again without them");
}

#[test]
fn what_was_verified_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    let key = SigningKey::generate();
    draft().write_signed(&path, &key).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    // Changed on disk after opening: the bytes in memory count, both for the check and the load.
    fs::write(path.join("model.onnx"), b"something else").unwrap();
    let verified = Policy::trusting(key.public(), "me").verify(bundle).unwrap();
    assert_eq!(&*verified.model_bytes(), onnx());
    let again = Bundle::open(&path).unwrap();
    let refused = Policy::trusting(key.public(), "me").verify(again).expect_err("changed on disk");
    assert_eq!(refused.code, Code::Tampered);
}
