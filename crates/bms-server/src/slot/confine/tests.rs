use std::path::PathBuf;

use bms_nn::onnx::RuntimeChoice;

use super::*;
use crate::slots::LanguageLaunch;

fn options(place: Place, policy: PathBuf, language: LanguageLaunch) -> Options {
    let (socket, runtime, threads) = (PathBuf::new(), RuntimeChoice::Auto, None);
    Options { place, socket, policy, sealed: false, runtime, threads, language, watched: false }
}

#[test]
fn a_slot_reads_what_its_options_name_and_the_links_of_a_download() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    for folder in ["blobs", "snapshot", "snapshot/1_Pooling", "adapters", "elsewhere"] {
        std::fs::create_dir(root.join(folder)).unwrap();
    }
    for file in ["blobs/a", "blobs/b", "blobs/c", "draft.gguf", "elsewhere/secret"] {
        std::fs::write(root.join(file), b"x").unwrap();
    }
    for (from, to) in [
        ("blobs/a", "snapshot/config.json"),
        ("blobs/b", "snapshot/1_Pooling/config.json"),
        ("elsewhere", "snapshot/out"),
    ] {
        std::os::unix::fs::symlink(root.join(from), root.join(to)).unwrap();
    }
    let language = LanguageLaunch {
        adapters: Some(root.join("adapters")),
        draft: Some(root.join("draft.gguf")),
        ..LanguageLaunch::default()
    };
    let place = Place::Bare { path: root.join("snapshot"), name: "m".to_owned() };
    let confinement = confinement(&options(place, PathBuf::new(), language)).unwrap();
    let read: Vec<&Path> = confinement.readable().filter_map(|path| path.strip_prefix(&root).ok()).collect();
    let mut expected = ["snapshot", "blobs/a", "blobs/b", "adapters", "draft.gguf"].map(Path::new);
    let mut read = read;
    read.sort_unstable();
    expected.sort_unstable();
    assert_eq!(read, expected);
}

#[test]
fn what_is_named_and_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let policy = PathBuf::new();
    let missing = Place::Bundle(dir.path().join("none"));
    let missing = confinement(&options(missing, policy.clone(), LanguageLaunch::default()));
    assert_eq!(missing.unwrap_err().code(), Code::NotFound);
    let place = Place::Bundle(dir.path().to_owned());
    let language = LanguageLaunch { adapters: Some(dir.path().join("none")), ..LanguageLaunch::default() };
    assert_eq!(confinement(&options(place, policy, language)).unwrap_err().code(), Code::NotFound);
}
