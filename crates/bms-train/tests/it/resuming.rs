//! A training that was stopped, killed or found its checkpoint damaged goes on as if nothing had happened.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bms_data::Dataset;
use bms_train::{Architecture, CnnSize, TrainEvent, TrainOptions, Trained, train};
use bms_wire::Code;

use crate::{quick, some_digits};

/// Names the checkpoint folder to the test that is run as a child and killed.
const CHILD: &str = "BMS_TRAIN_TEST_CHILD";
const EPOCHS: usize = 4;

/// With augmentation, dropout, several shards a batch and early stopping: all that must be resumed.
fn options<'a>(validation: &'a Dataset, dir: Option<&Path>) -> TrainOptions<'a> {
    TrainOptions {
        architecture: Architecture::Cnn { size: CnnSize::Medium },
        epochs: EPOCHS,
        batch: 40,
        patience: Some(EPOCHS),
        validation: Some(validation),
        checkpoint_dir: dir.map(Path::to_owned),
        resume: dir.is_some(),
        ..quick()
    }
}

fn data() -> (Dataset, Dataset) {
    (some_digits(0..130), some_digits(130..180))
}

/// The result of a run that nothing interrupts.
fn uninterrupted() -> Trained {
    let (data, validation) = data();
    train(&data, &options(&validation, None), &mut |_| ()).unwrap()
}

/// Runs until `epochs` are on disk, then stops in the middle of the next.
fn stop_after(epochs: usize, dir: &Path) {
    let (data, validation) = data();
    let cancel = Arc::new(AtomicBool::new(false));
    let options = TrainOptions { cancel: Some(Arc::clone(&cancel)), ..options(&validation, Some(dir)) };
    let error = train(&data, &options, &mut |event| {
        if matches!(event, TrainEvent::Step { epoch, step: 2, .. } if epoch == epochs + 1) {
            cancel.store(true, Ordering::Relaxed);
        }
    })
    .unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.advice().unwrap().contains("resume"));
}

fn resume(dir: &Path) -> (Trained, Vec<TrainEvent>) {
    let (data, validation) = data();
    let mut events = Vec::new();
    let trained = train(&data, &options(&validation, Some(dir)), &mut |event| events.push(event)).unwrap();
    (trained, events)
}

fn assert_same(a: &Trained, b: &Trained) {
    assert!(a.onnx == b.onnx, "the graphs differ");
    assert_eq!(a.curves, b.curves);
    assert_eq!(a.report, b.report);
}

fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "ckpt"));
    found.sort();
    found
}

#[test]
fn two_epochs_and_two_more_are_four_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    stop_after(2, dir.path());
    let (resumed, events) = resume(dir.path());
    assert!(matches!(events[0], TrainEvent::Resumed { epoch: 2, .. }), "{:?}", events[0]);
    assert_same(&resumed, &uninterrupted());
    // All done: resuming once more trains nothing and gives the same.
    let (again, events) = resume(dir.path());
    assert_same(&again, &resumed);
    assert!(!events.iter().any(|event| matches!(event, TrainEvent::Step { .. })));
}

#[test]
fn a_damaged_checkpoint_costs_one_epoch_and_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    stop_after(3, dir.path());
    let newest = checkpoints(dir.path()).pop().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let (resumed, events) = resume(dir.path());
    assert!(matches!(&events[0], TrainEvent::CheckpointSkipped { path, .. } if *path == newest));
    assert!(matches!(events[1], TrainEvent::Resumed { epoch: 2, .. }), "{:?}", events[1]);
    assert_same(&resumed, &uninterrupted());
}

#[test]
fn another_run_does_not_go_on_from_or_over_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    stop_after(1, dir.path());
    let (data, validation) = data();
    let other_seed = TrainOptions { seed: 99, ..options(&validation, Some(dir.path())) };
    assert_eq!(train(&data, &other_seed, &mut |_| ()).unwrap_err().code(), Code::Conflict);
    let other_data = some_digits(1..131);
    let same = options(&validation, Some(dir.path()));
    assert_eq!(train(&other_data, &same, &mut |_| ()).unwrap_err().code(), Code::Conflict);
    let fresh = TrainOptions { resume: false, ..options(&validation, Some(dir.path())) };
    assert_eq!(train(&data, &fresh, &mut |_| ()).unwrap_err().code(), Code::Conflict);
    assert_eq!(checkpoints(dir.path()).len(), 1);
}

/// Run as a child: trains with checkpoints until it is killed. Alone it has nothing to do.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(CHILD) {
        resume(Path::new(&dir));
    }
}

#[test]
fn a_killed_training_goes_on_bit_for_bit() {
    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    // Killed in each of the first epochs' training, or while a checkpoint is being written.
    for wanted in 1..EPOCHS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resuming::child"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let newest = dir.path().join(format!("epoch-{wanted:06}.ckpt"));
        while !newest.exists() && child.try_wait().unwrap().is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        kills += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(newest.exists(), "the child got to epoch {wanted}");
    }
    assert!(0 < kills, "no child was still running when it was to be killed");
    let (resumed, events) = resume(dir.path());
    assert!(matches!(events[0], TrainEvent::Resumed { .. }));
    assert_same(&resumed, &uninterrupted());
}
