use std::convert::Infallible;
use std::time::Duration;

use bms_wire::Code;
use tempfile::TempDir;

use super::{Output, QUIET_LOOKS, WakeOptions, Watch, ask, open};

#[test]
fn the_time_is_written_as_one_number_and_taken_back_as_one() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("latency");
    std::fs::write(&path, "").unwrap();
    let mut device = open(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    ask(&mut device, true, 70_000).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), 70_000_i32.to_ne_bytes());
    ask(&mut device, false, 70_000).unwrap();
    assert_eq!(std::fs::read(&path).unwrap()[4..], (-1_i32).to_ne_bytes());
}

#[test]
fn who_may_not_is_told_what_else_there_is() {
    let dir = TempDir::new().unwrap();
    let error = open(&dir.path().join("missing")).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let body = error.body();
    assert!(body.hint.is_some_and(|hint| hint.contains("tuned-adm")), "{error}");
}

#[test]
fn nothing_is_asked_for_unasked() {
    assert!(WakeOptions { wake_within: None }.hold(Output::new(false)).is_ok());
}

/// What is asked for when so many microseconds of processor time are used between looks.
fn asked(looks: &[u64]) -> Vec<(usize, bool)> {
    let (mut watch, mut used, mut asked) = (Watch::new(Duration::ZERO), Duration::ZERO, Vec::new());
    for (at, microseconds) in looks.iter().enumerate() {
        used += Duration::from_micros(*microseconds);
        let looked: Result<(), Infallible> = watch.look(used, |held| {
            asked.push((at, held));
            Ok(())
        });
        looked.unwrap_or_else(|never| match never {});
    }
    asked
}

#[test]
fn processors_are_held_while_there_is_something_to_do() {
    let quiet = vec![4000; 2 * QUIET_LOOKS as usize];
    assert_eq!(asked(&quiet), []);
    let one = [&[4000, 20_000, 20_000][..], &quiet].concat();
    assert_eq!(asked(&one), [(1, true), (2 + QUIET_LOOKS as usize, false)]);
    // A pause that is shorter than that is none.
    let pauses = [&[20_000][..], &quiet[..5], &[20_000], &quiet[..5], &[20_000]].concat();
    assert_eq!(asked(&pauses), [(0, true)]);
}
