use bms_wire::Code;
use tempfile::TempDir;

use super::{WakeOptions, hold};

#[test]
fn the_time_is_written_as_one_number_and_the_file_stays_open() {
    let dir = TempDir::new().unwrap();
    let device = dir.path().join("latency");
    std::fs::write(&device, "").unwrap();
    let held = hold(&device, 70_000).unwrap();
    assert_eq!(std::fs::read(&device).unwrap(), 70_000_i32.to_ne_bytes());
    drop(held);
}

#[test]
fn who_may_not_is_told_what_else_there_is() {
    let dir = TempDir::new().unwrap();
    let error = hold(&dir.path().join("missing"), 0).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let body = error.body();
    assert!(body.hint.is_some_and(|hint| hint.contains("tuned-adm")), "{error}");
}

#[test]
fn nothing_is_asked_for_unasked() {
    assert!(WakeOptions { wake_within: None }.hold().is_ok());
}
