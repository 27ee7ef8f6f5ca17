//! The same answer on every way to it.

use std::time::Duration;

use bms_data::preprocess_image;
use bms_engine::{Answer, Engine, EngineOptions, Input};
use bms_nn::Tensor;
use bms_nn::onnx::proto::{AttributeProto, NodeProto};
use bms_nn::onnx::{self, LoadOptions};
use bms_wire::Code;

use crate::models::{self, SIDE, load, options, picture};

/// Rounding: other batch sizes take other paths through the matrix kernels.
const EPSILON: f32 = 1e-5;

fn probabilities(answer: &Answer) -> Vec<Vec<(String, f32)>> {
    let classes = answer.classes.as_ref().expect("a classifier answers with classes");
    classes.iter().map(|class| class.ranked.clone()).collect()
}

fn assert_same(a: &[(String, f32)], b: &[(String, f32)], what: &str) {
    assert_eq!(a.len(), b.len());
    for ((label, p), (other, q)) in a.iter().zip(b) {
        assert_eq!(label, other, "{what}");
        assert!((p - q).abs() < EPSILON, "{what}: `{label}` has {p} and {q}");
    }
}

fn png(index: usize) -> Vec<u8> {
    picture(index).encode_png().unwrap()
}

fn one_by_one(engine: &Engine, count: usize) -> Vec<Vec<(String, f32)>> {
    (0..count)
        .map(|i| probabilities(&engine.predict(Input::Images(vec![png(i)])).unwrap()).remove(0))
        .collect()
}

#[test]
fn library_single_joined_and_concurrent_answers_are_equal() {
    const COUNT: usize = 30;
    let patient = EngineOptions { batch_wait: Duration::from_millis(20), batch_rows_max: 8, ..options() };
    let engine = load(models::picture_pipeline(), models::picture_graph(), &patient).unwrap();
    let single = one_by_one(&engine, COUNT);
    let winners: std::collections::BTreeSet<_> = single.iter().map(|ranked| &ranked[0].0).collect();
    assert!(winners.len() > 1, "the pictures must be unlike for this test to say anything");

    // The session itself, fed by hand.
    let load_options = LoadOptions { runtime: options().runtime, threads: 1 };
    let mut session = onnx::load(models::encode(models::picture_graph()).into(), &load_options).unwrap();
    for (index, ranked) in single.iter().enumerate() {
        let values = preprocess_image(&models::picture_input(), &picture(index)).unwrap();
        let tensor = Tensor::f32(vec![1, 1, SIDE, SIDE], values).unwrap();
        let outputs = session.run(vec![("image".into(), tensor)]).unwrap();
        let logits = outputs[0].1.as_f32().unwrap();
        let sum: f32 = logits.iter().map(|x| x.exp()).sum();
        let mut by_hand: Vec<_> = ["a", "b", "c"]
            .iter()
            .zip(logits)
            .map(|(label, x)| ((*label).to_owned(), x.exp() / sum))
            .collect();
        by_hand.sort_by(|a, b| b.1.total_cmp(&a.1));
        assert_same(ranked, &by_hand, "by hand");
    }

    // All in one request, over the largest batch.
    let joined = engine.predict(Input::Images((0..COUNT).map(png).collect())).unwrap();
    assert_eq!(joined.outputs[0].1.shape(), &[COUNT, 3]);
    for (ranked, other) in single.iter().zip(probabilities(&joined)) {
        assert_same(ranked, &other, "one request");
    }

    // From many threads at once, where strangers' rows share a run.
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (engine, single) = (&engine, &single);
            scope.spawn(move || {
                for index in (0..COUNT).map(|i| (i + thread * 5) % COUNT) {
                    let answer = engine.predict(Input::Images(vec![png(index)])).unwrap();
                    assert_same(&single[index], &probabilities(&answer)[0], "concurrent");
                }
            });
        }
    });
}

#[test]
fn a_graph_that_mixes_its_rows_never_joins_strangers() {
    // Softmax down the rows: legal, free in its first axis, and different for every batch.
    let mixing =
        NodeProto::new("Softmax", "softmax", &["x"], &["logits"]).with(AttributeProto::int("axis", 0));
    let patient = EngineOptions { batch_wait: Duration::from_millis(20), ..options() };
    let engine = load(models::table_pipeline(), models::table_graph(mixing), &patient).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let engine = &engine;
            scope.spawn(move || {
                let answer = engine.predict(Input::Rows(vec![vec![thread as f32, 1.0]])).unwrap();
                let values = answer.outputs[0].1.as_f32().unwrap().to_vec();
                assert_eq!(values, [1.0, 1.0], "a row alone has the whole of the softmax");
            });
        }
    });
}

#[test]
fn rows_are_scaled_as_the_pipeline_says() {
    let identity = NodeProto::new("Identity", "id", &["x"], &["logits"]);
    let engine = load(models::table_pipeline(), models::table_graph(identity), &options()).unwrap();
    let answer = engine.predict(Input::Rows(vec![vec![2.0, 0.0], vec![1.0, 2.0]])).unwrap();
    assert_eq!(answer.outputs[0].1, Tensor::f32(vec![2, 2], vec![2.0, -1.0, 0.0, 0.0]).unwrap());
    let classes = probabilities(&answer);
    assert_eq!(classes[0][0].0, "low");
    assert!((classes[0][0].1 - 0.952_574).abs() < 1e-5, "softmax of 2 and -1");
    assert_eq!(
        classes[1],
        [("low".to_owned(), 0.5), ("high".to_owned(), 0.5)],
        "ties keep the labels' order"
    );
}

#[test]
fn large_logits_do_not_overflow() {
    let identity = NodeProto::new("Identity", "id", &["x"], &["logits"]);
    let engine = load(models::table_pipeline(), models::table_graph(identity), &options()).unwrap();
    let answer = engine.predict(Input::Rows(vec![vec![1e6, -1e6]])).unwrap();
    assert_eq!(probabilities(&answer)[0], [("low".to_owned(), 1.0), ("high".to_owned(), 0.0)]);
}

#[test]
fn a_model_that_answers_with_nan_is_not_believed() {
    let log = NodeProto::new("Log", "log", &["x"], &["logits"]);
    let engine = load(models::table_pipeline(), models::table_graph(log), &options()).unwrap();
    let error = engine.predict(Input::Rows(vec![vec![0.0, 0.0]])).unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("NaN"), "{error}");
}
