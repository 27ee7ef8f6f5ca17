//! A full queue, callers that leave, and the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bms_engine::{Engine, EngineOptions, Input, Priority};
use bms_nn::onnx::Home;
use bms_nn::onnx::proto::NodeProto;
use bms_wire::Code;

use crate::models::{load, options, table_graph, table_pipeline};

const PATIENCE: Duration = Duration::from_secs(20);

fn engine(queue_rows_max: usize) -> Engine {
    let identity = NodeProto::new("Identity", "id", &["x"], &["logits"]);
    load(table_pipeline(), table_graph(identity), &EngineOptions { queue_rows_max, ..options() }).unwrap()
}

fn row() -> Input {
    Input::Rows(vec![vec![1.0, 2.0]])
}

/// Keeps the engine's thread in a reply until the sender is used or dropped.
fn occupy(engine: &Engine) -> mpsc::Sender<()> {
    let (release, held) = mpsc::channel::<()>();
    let (started, running) = mpsc::channel();
    let hold = move |_answer| {
        started.send(()).unwrap();
        let _ = held.recv();
    };
    engine.submit(row(), hold).unwrap();
    running.recv_timeout(PATIENCE).unwrap();
    release
}

#[test]
fn a_full_queue_refuses_at_once_and_loses_nothing() {
    let engine = engine(5);
    let release = occupy(&engine);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut accepted = 0;
    let refusal = loop {
        let answered = Arc::clone(&answered);
        let count = move |answer: Result<_, _>| {
            assert!(answer.is_ok());
            answered.fetch_add(1, Ordering::SeqCst);
        };
        match engine.submit(row(), count) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
        assert!(accepted <= 5, "the queue never fills");
    };
    assert_eq!(refusal.code(), Code::QueueFull);
    assert!(refusal.advice().is_some());
    assert_eq!(accepted, 4, "the row in work holds its seat");

    drop(release);
    engine
        .predict(Input::Rows(vec![vec![0.0, 0.0]]))
        .or_else(|error| {
            // The queue may still be full for a moment; that is an honest answer.
            assert_eq!(error.code(), Code::QueueFull);
            std::thread::sleep(Duration::from_millis(200));
            engine.predict(row())
        })
        .unwrap();
    drop(engine);
    assert_eq!(answered.load(Ordering::SeqCst), accepted, "what was accepted was answered");
}

#[test]
fn a_refused_input_gives_its_seat_back() {
    let engine = engine(1);
    for _ in 0..5 {
        let error = engine.predict(Input::Rows(vec![vec![f32::NAN, 0.0]])).unwrap_err();
        assert_eq!(error.code(), Code::InvalidInput);
    }
    assert_eq!(engine.waiting_rows(), 0);
    engine.predict(row()).unwrap();
}

#[test]
fn work_whose_caller_left_is_skipped() {
    let engine = engine(10);
    let release = occupy(&engine);
    let answered = Arc::new(AtomicUsize::new(0));
    for gone in [true, false, true, false] {
        let answered = Arc::clone(&answered);
        engine
            .submit_while(
                row(),
                Priority::default(),
                move || !gone,
                move |_| {
                    answered.fetch_add(1, Ordering::SeqCst);
                },
            )
            .unwrap();
    }
    drop(release);
    drop(engine);
    assert_eq!(answered.load(Ordering::SeqCst), 2);
}

#[test]
fn panics_of_callers_do_not_end_the_thread() {
    let engine = engine(10);
    engine.submit(row(), |_| panic!("a reply that panics")).unwrap();
    engine.submit_while(row(), Priority::default(), || panic!("a question that panics"), |_| ()).unwrap();
    engine.predict(row()).unwrap();
}

#[test]
fn dropping_an_engine_answers_what_waits() {
    let engine = engine(100);
    let (sender, answers) = mpsc::channel();
    for index in 0..50 {
        let sender = sender.clone();
        engine.submit(row(), move |answer| sender.send((index, answer.is_ok())).unwrap()).unwrap();
    }
    drop(engine);
    drop(sender);
    let mut got: Vec<_> = answers.iter().collect();
    got.sort_unstable();
    assert_eq!(got, (0..50).map(|index| (index, true)).collect::<Vec<_>>());
}

#[test]
fn the_last_handle_may_be_dropped_by_a_reply() {
    let engine = Arc::new(engine(10));
    let (sender, done) = mpsc::channel();
    let own = Arc::clone(&engine);
    engine
        .submit(row(), move |_| {
            // By now the test holds no handle: the engine ends itself from its own thread.
            std::thread::sleep(Duration::from_millis(100));
            drop(own);
            sender.send(()).unwrap();
        })
        .unwrap();
    drop(engine);
    done.recv_timeout(PATIENCE).expect("the thread must not wait for itself");
}

#[test]
fn a_small_graph_is_run_by_whoever_has_a_thread_like_its_own() {
    let engine = engine(5);
    let ran_here = || {
        // So long that nothing is expected to join.
        std::thread::sleep(Duration::from_millis(1));
        let (sender, receiver) = mpsc::channel();
        let reply = move |answer: Result<_, _>| {
            sender.send((answer.is_ok(), std::thread::current().id())).unwrap();
        };
        engine.submit(row(), reply).unwrap();
        let (answered, thread) = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(answered);
        thread == std::thread::current().id()
    };
    assert!((0..20).all(|_| !ran_here()), "this thread is nobody's");
    // A run that was interrupted counts as slow until others have shown better.
    assert!(Home::new(1).run(|| (0..10_000).any(|_| ran_here())));
    assert!(Home::new(2).run(|| (0..20).all(|_| !ran_here())), "two threads are not like one");
}
