//! What happens when the library of ONNX Runtime is wrong: a clear error, no hang, no crash.
//!
//! A process loads the library once, so each attempt is a process of its own: this test binary again,
//! told to run only [`probe`].

use std::path::{Path, PathBuf};
use std::process::Command;

use bms_nn::onnx::{self, RuntimeKind};
use tempfile::TempDir;

/// Set for the processes that [`detail_with`] starts.
const PROBE: &str = "BMS_NN_PROBE";

/// Prints what became of the library; the body of the processes below.
#[test]
fn probe() {
    let infos = onnx::runtimes();
    let info = infos.iter().find(|info| info.kind == RuntimeKind::OnnxRuntime).unwrap();
    if std::env::var_os(PROBE).is_some() {
        println!("available={} {}", info.available, info.detail);
    }
    assert!(infos.iter().any(|info| info.kind == RuntimeKind::Rten && info.available), "rten is built in");
}

/// What a fresh process says of this library.
fn detail_with(library: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "library::probe", "--nocapture"])
        .env("BMS_ONNXRUNTIME", library)
        .env(PROBE, "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", library.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.contains("available=")).expect("the probe says what it found");
    line.to_owned()
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn a_wrong_library_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    for (library, want) in [
        (PathBuf::from("/nowhere/libonnxruntime.so"), "No such file"),
        (file(&dir, "empty.so", b""), "it is no library"),
        (file(&dir, "text.so", &[b'x'; 4096]), "it is no 64-bit library"),
        // This program is no library, or at least not that one.
        (std::env::current_exe().unwrap(), "failed to load"),
    ] {
        let detail = detail_with(&library);
        assert!(detail.contains("available=false"), "{detail}");
        assert!(detail.contains(want), "`{detail}` does not say `{want}`");
        assert!(detail.contains("pip install onnxruntime"), "`{detail}` does not say how to get it");
    }
}

#[test]
fn a_library_that_is_cut_short_is_a_clear_error() {
    let exe = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let detail = detail_with(&file(&dir, "half.so", &exe[..exe.len() / 2]));
    assert!(detail.contains("it is cut short"), "{detail}");
}
