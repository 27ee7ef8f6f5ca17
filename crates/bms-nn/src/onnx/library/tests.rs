use tempfile::TempDir;

use super::*;

fn nothing() -> Surroundings {
    Surroundings { named: None, program: None, system: vec![], python: None }
}

/// An empty file at `path` under a fresh folder.
fn place(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"").unwrap();
    }
    root
}

#[test]
fn a_named_library_is_taken_at_its_word() {
    let named = PathBuf::from("/nowhere/libonnxruntime.so");
    let root = place(&[FILE]);
    let surroundings =
        Surroundings { named: Some(named.clone()), system: vec![root.path().to_owned()], ..nothing() };
    assert_eq!(surroundings.find(), Some(named), "no other library is used instead of a wrong one");
}

#[test]
fn the_newest_version_in_a_folder_wins() {
    let versions: Vec<String> =
        ["1.9.0", "1.32.0", "1.32", "next"].iter().map(|v| format!("{FILE}.{v}")).collect();
    let folder = place(&versions.iter().map(String::as_str).collect::<Vec<_>>());
    let root = folder.path();
    assert_eq!(library_in(root), Some(root.join(format!("{FILE}.1.32.0"))));
    std::fs::write(root.join(FILE), b"").unwrap();
    assert_eq!(library_in(root), Some(root.join(FILE)), "the plain name is the system's choice");
}

#[test]
fn a_python_environment_is_searched_last() {
    let inside = format!("lib/python3.11/site-packages/onnxruntime/capi/{FILE}.1.32.0");
    let folders = (place(&[&inside]), place(&[FILE]));
    let (python, beside) = (folders.0.path().to_owned(), folders.1.path().to_owned());
    let surroundings = Surroundings { python: Some(python.clone()), ..nothing() };
    assert_eq!(surroundings.find(), Some(python.join(&inside)));
    let surroundings = Surroundings { program: Some(beside.clone()), ..surroundings };
    assert_eq!(surroundings.find(), Some(beside.join(FILE)));
    assert_eq!(nothing().find(), None);
}
