//! What comes out of a training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bms_bundle::{Bundle, Policy, SigningKey, sign_dir};
use bms_data::Dataset;
use bms_nn::onnx::{LoadOptions, load};
use bms_train::{
    Architecture, CnnSize, Curves, Point, Report, TrainEvent, TrainOptions, evaluate, predictor_from, train,
};
use bms_wire::{Code, Postprocess};

use crate::{quick, some_digits};

#[test]
fn digits_are_learnt_and_the_bundle_passes_the_gate() {
    let (data, held_out) = (some_digits(0..600), some_digits(600..800));
    let options = TrainOptions { epochs: 25, validation: Some(&held_out), ..quick() };
    let mut events = Vec::new();
    let trained = train(&data, &options, &mut |event| events.push(event)).unwrap();

    let report = trained.report.as_ref().unwrap();
    assert!(0.93 < report.accuracy, "{}", report.accuracy);
    let points = &trained.curves.points;
    assert_eq!(points.len(), 25);
    assert!(points[24].train_loss < points[0].train_loss / 3.0);
    assert_eq!(points[24].validation_accuracy, Some(report.accuracy as f32));
    assert!((f64::from(points[24].validation_loss.unwrap()) - report.nll).abs() < 1e-3);

    let steps = events.iter().filter(|event| matches!(event, TrainEvent::Step { .. })).count();
    assert_eq!(steps, 25 * 600_usize.div_ceil(32));
    let TrainEvent::Epoch { eta_seconds, .. } = events.last().unwrap() else { panic!("{:?}", events.last()) };
    assert_eq!(*eta_seconds, 0.0);

    // The graph itself, run by the engine that will serve it, is as good.
    let mut session = load(Arc::from(trained.onnx.as_slice()), &LoadOptions::default()).unwrap();
    let Postprocess::Classify { labels } = &trained.manifest.pipeline.postprocess else { panic!() };
    let mut predict = predictor_from(&mut session, &trained.manifest.pipeline, &held_out).unwrap();
    let served: Report = evaluate(&mut predict, &held_out, labels).unwrap();
    assert_eq!(served.confusion, report.confusion);
    assert!((served.nll - report.nll).abs() < 1e-4);

    let dir = tempfile::tempdir().unwrap();
    let bundle = dir.path().join("bundle");
    let written = trained.write_bundle(&bundle).unwrap();
    let names: Vec<&str> = written.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(names, ["confusion.svg", "curves.json", "curves.svg", "model.onnx", "report.json"]);
    assert_eq!(written.metrics[0].values["accuracy"], report.accuracy);
    assert_eq!(written.metrics[0].data_digest, held_out.digest());
    assert_eq!(written.lineage.data[0].digest, data.digest());
    let key = SigningKey::generate();
    sign_dir(&bundle, &key).unwrap();
    let verified = Policy::trusting(key.public(), "tests").verify(Bundle::open(&bundle).unwrap());
    assert!(verified.is_ok(), "{:?}", verified.err());
}

#[test]
fn the_result_does_not_depend_on_the_threads_but_on_the_seed() {
    let data = some_digits(0..150);
    let run = |threads, seed| {
        let architecture = Architecture::Cnn { size: CnnSize::Medium };
        let options = TrainOptions { architecture, threads, seed, epochs: 1, batch: 50, ..quick() };
        train(&data, &options, &mut |_| ()).unwrap()
    };
    let (one, three) = (run(1, 7), run(3, 7));
    assert_eq!(one.onnx, three.onnx);
    assert_eq!(one.curves, three.curves);
    assert_ne!(one.onnx, run(1, 8).onnx);
}

#[test]
fn a_learning_rate_that_diverges_is_a_clear_error() {
    let options = TrainOptions { learning_rate: 1e12, ..quick() };
    let error = train(&some_digits(0..100), &options, &mut |_| ()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.message().contains("not finite"), "{error}");
    assert!(error.advice().unwrap().contains("learning rate"));
}

#[test]
fn options_that_make_no_sense_are_refused_before_any_work() {
    let data = some_digits(0..20);
    let refused = |options: TrainOptions<'_>| {
        let mut events = 0;
        let error = train(&data, &options, &mut |_| events += 1).unwrap_err();
        assert_eq!(events, 0);
        error.code()
    };
    for options in [
        TrainOptions { epochs: 0, ..quick() },
        TrainOptions { batch: 0, ..quick() },
        TrainOptions { learning_rate: 0.0, ..quick() },
        TrainOptions { learning_rate: f64::NAN, ..quick() },
        TrainOptions { weight_decay: -1.0, ..quick() },
        TrainOptions { label_smoothing: 1.0, ..quick() },
        TrainOptions { patience: Some(3), ..quick() },
        TrainOptions { resume: true, ..quick() },
        TrainOptions { architecture: Architecture::Mlp { hidden: vec![4, 0] }, ..quick() },
    ] {
        assert_eq!(refused(options.clone()), Code::InvalidRequest, "{options:?}");
    }
    assert_eq!(refused(TrainOptions { name: "No Name".into(), ..quick() }), Code::InvalidBundle);
    let Dataset::Images(mut other) = some_digits(20..40) else { panic!() };
    other.labels[3] = "three".into();
    let other = Dataset::Images(other);
    assert_eq!(refused(TrainOptions { validation: Some(&other), ..quick() }), Code::InvalidInput);
}

#[test]
fn patience_stops_early_and_keeps_the_best_weights() {
    // Trained on very little and at a high rate, the validation loss rises soon.
    let (data, held_out) = (some_digits(0..60), some_digits(1300..1500));
    let options = TrainOptions {
        epochs: 200,
        augment: None,
        patience: Some(3),
        learning_rate: 0.01,
        validation: Some(&held_out),
        ..quick()
    };
    let mut stopped = None;
    let trained = train(&data, &options, &mut |event| {
        if let TrainEvent::StoppedEarly { epoch, best_epoch } = event {
            stopped = Some((epoch, best_epoch));
        }
    })
    .unwrap();
    let (epoch, best_epoch) = stopped.expect("it stops");
    assert_eq!(epoch, best_epoch + 3);
    let Curves { points } = &trained.curves;
    assert_eq!(points.len(), epoch);
    let loss = |point: &Point| point.validation_loss.unwrap();
    assert!(points.iter().all(|point| loss(&points[best_epoch - 1]) <= loss(point)));
    assert!((trained.report.unwrap().nll - f64::from(loss(&points[best_epoch - 1]))).abs() < 1e-3);
}

#[test]
fn smoothed_labels_make_a_less_certain_network() {
    let data = some_digits(0..300);
    let confidence = |label_smoothing| {
        let options = TrainOptions { label_smoothing, epochs: 8, validation: Some(&data), ..quick() };
        let bins = train(&data, &options, &mut |_| ()).unwrap().report.unwrap().reliability;
        bins.iter().map(|bin| bin.confidence * bin.samples as f64).sum::<f64>() / 300.0
    };
    let (plain, smooth) = (confidence(0.0), confidence(0.3));
    assert!(smooth + 0.1 < plain, "{smooth} {plain}");
}

#[test]
fn a_training_can_be_cancelled() {
    let cancel = Arc::new(AtomicBool::new(false));
    let options = TrainOptions { cancel: Some(Arc::clone(&cancel)), ..quick() };
    let mut steps = 0;
    let error = train(&some_digits(0..100), &options, &mut |event| {
        if matches!(event, TrainEvent::Step { .. }) {
            steps += 1;
            cancel.store(true, Ordering::Relaxed);
        }
    })
    .unwrap_err();
    assert_eq!((error.code(), steps), (Code::Unavailable, 1));
}
