//! Tables.

use std::sync::Arc;

use bms_data::{Dataset, TableSet};
use bms_nn::onnx::{LoadOptions, load};
use bms_train::{
    Architecture, CnnSize, CompressOptions, TrainOptions, compress, evaluate, predictor_from, train,
};
use bms_wire::Code;

/// Three classes: outside a ring, inside it, and a corner; on columns of very different scale.
fn rings(seed: u32, rows: usize) -> Dataset {
    let mut state = seed;
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
    };
    let mut set = TableSet {
        columns: vec!["x".into(), "y".into()],
        labels: vec!["inside".into(), "outside".into(), "corner".into()],
        ..TableSet::default()
    };
    for _ in 0..rows {
        let (x, y) = (draw(), draw());
        let corner = 0.4 < x && 0.4 < y;
        set.targets.push(if corner { 2 } else { usize::from(0.4 < x * x + y * y) });
        set.rows.extend([5000.0 + 1000.0 * x, y / 1000.0]);
    }
    Dataset::Table(set)
}

fn options() -> TrainOptions<'static> {
    TrainOptions {
        epochs: 40,
        learning_rate: 0.01,
        ..TrainOptions::new("rings", Architecture::Mlp { hidden: vec![32, 32] })
    }
}

#[test]
fn a_perceptron_learns_a_table_and_stays_good_in_eight_bits() {
    let (data, held_out) = (rings(1, 1200), rings(2, 500));
    let options = TrainOptions { validation: Some(&held_out), ..options() };
    let trained = train(&data, &options, &mut |_| ()).unwrap();
    let accuracy = trained.report.as_ref().unwrap().accuracy;
    assert!(0.95 < accuracy, "{accuracy}");
    assert_eq!(trained.manifest.task, "tabular-classification");

    let pipeline = &trained.manifest.pipeline;
    let mut session = load(Arc::from(trained.onnx.as_slice()), &LoadOptions::default()).unwrap();
    let mut predict = predictor_from(&mut session, pipeline, &held_out).unwrap();
    let served = evaluate(&mut predict, &held_out, held_out.labels()).unwrap();
    assert_eq!(served.confusion, trained.report.as_ref().unwrap().confusion);

    let compressed =
        compress(&trained.onnx, pipeline, &data, &held_out, &CompressOptions::new(0.01)).unwrap();
    assert!(compressed.before.accuracy - compressed.after.accuracy <= 0.01);
}

#[test]
fn a_table_is_not_convolved() {
    let options = TrainOptions { architecture: Architecture::Cnn { size: CnnSize::Tiny }, ..options() };
    let error = train(&rings(1, 50), &options, &mut |_| ()).unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.advice().unwrap().contains("mlp"));
}
