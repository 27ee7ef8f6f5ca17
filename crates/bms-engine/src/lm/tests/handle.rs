//! The engine with its threads.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use bms_nn::lm::AdapterFiles;
use bms_wire::Code;

use super::fake::{FakeClock, FakeDecoder, FakeVocabulary, expected};
use super::harness::{prompt, request};
use crate::lm::{Constraint, Event, FinishReason, LanguageEngine, LanguageOptions, Request, Vocabulary};

fn engine(change: impl FnOnce(&mut LanguageOptions)) -> LanguageEngine {
    let mut options = LanguageOptions { threads: 2, ..LanguageOptions::default() };
    change(&mut options);
    let decoder = FakeDecoder::new(128, 1024, FakeClock::new());
    LanguageEngine::start(Box::new(decoder), Arc::new(FakeVocabulary::new()), &options).unwrap()
}

#[test]
fn callers_on_many_threads_get_their_answers() {
    let engine = engine(|_| ());
    std::thread::scope(|scope| {
        for caller in 0..8u32 {
            let engine = &engine;
            scope.spawn(move || {
                for i in 0..5 {
                    let tokens = prompt(caller * 10 + i, 20 + 9 * i as usize);
                    let answers = engine.complete(Request { n: 2, ..request(tokens.clone(), 25) }).unwrap();
                    let want = expected(&tokens, 25, None, usize::MAX);
                    for answer in answers {
                        assert_eq!(answer.tokens.iter().map(|t| t.id).collect::<Vec<_>>(), want);
                        assert_eq!(answer.usage.completion_tokens, want.len());
                    }
                }
            });
        }
    });
    let metrics = engine.metrics();
    assert_eq!((metrics.requests, metrics.running, metrics.waiting), (40, 0, 0));
    assert_eq!(metrics.ttft.count(), 40);
    assert_eq!(metrics.kv_pages_used, 0);
    assert_eq!(metrics.e2e.count(), 80);
}

#[test]
fn refusals_are_at_once_and_clear() {
    let engine = engine(|_| ());
    let refused = |question: Request| engine.generate(question, |_| true).unwrap_err();
    assert_eq!(refused(Request::new(vec![])).code(), Code::InvalidInput);
    let long = refused(request(prompt(1, 1000), 100));
    assert_eq!(long.code(), Code::InvalidInput);
    assert!(long.message().contains("context is 1024 tokens; 1100 were asked for"), "{long}");
    let adapter = refused(Request { adapter: Some("x".into()), ..request(prompt(1, 10), 5) });
    assert_eq!((adapter.code(), adapter.message()), (Code::ModelNotFound, "there is no adapter `x`"));
    let bad = Some(Constraint::Regex("(".into()));
    assert_eq!(
        refused(Request { constraint: bad, ..request(prompt(1, 10), 5) }).code(),
        Code::InvalidRequest
    );
}

#[test]
fn a_full_queue_refuses_and_gives_its_places_back() {
    let engine = engine(|o| (o.queue_max, o.sequences_max) = (2, 1));
    let (hold, held) = mpsc::channel::<()>();
    let (began, begins) = mpsc::channel();
    // The first answer is under way; its sink stops the delivery, not the engine.
    let _first = engine
        .generate(Request { ignore_eos: true, ..request(prompt(1, 10), 900) }, move |_| {
            let _ = began.send(());
            held.recv().is_ok()
        })
        .unwrap();
    begins.recv().unwrap();
    let mut tickets = Vec::new();
    let refused = loop {
        match engine.generate(Request { ignore_eos: true, ..request(prompt(2, 10), 900) }, |_| true) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
        assert!(tickets.len() < 10_000);
    };
    assert_eq!(refused.code(), Code::QueueFull);
    assert!(refused.advice().unwrap().contains("again in about 1 s"));
    assert_eq!(engine.metrics().refused, 1);
    drop(tickets);
    drop(hold);
    // Places come back once the engine saw that their holders left.
    let answer = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        engine.complete(request(prompt(3, 10), 5)).ok()
    });
    assert_eq!(answer.unwrap()[0].tokens[0].id, expected(&prompt(3, 10), 1, None, usize::MAX)[0]);
}

#[test]
fn a_dropped_ticket_ends_an_answer_and_a_kept_one_does_not() {
    let engine = engine(|_| ());
    let (sender, events) = mpsc::channel();
    let ticket = engine.generate(Request { ignore_eos: true, ..request(prompt(1, 10), 1000) }, move |e| {
        sender.send(e).is_ok()
    });
    drop(ticket.unwrap());
    let last = events.iter().last().unwrap();
    assert!(matches!(last, Event::Done { reason: FinishReason::Cancelled, .. }), "{last:?}");

    let (sender, events) = mpsc::channel();
    engine.generate(request(prompt(2, 10), 30), move |e| sender.send(e).is_ok()).unwrap().keep();
    let last = events.iter().last().unwrap();
    assert!(
        matches!(last, Event::Done { reason: FinishReason::Stop | FinishReason::Length, .. }),
        "{last:?}"
    );
}

#[test]
fn dropping_the_engine_fails_what_is_under_way() {
    let engine = engine(|_| ());
    let (sender, events) = mpsc::channel();
    let question = Request { ignore_eos: true, ..request(prompt(1, 10), 1000) };
    engine.generate(question, move |e| sender.send(e).is_ok()).unwrap().keep();
    drop(engine);
    let last = events.iter().last().unwrap();
    assert!(
        matches!(&last, Event::Failed(e) if e.code() == Code::Unavailable)
            || matches!(last, Event::Done { .. })
    );
}

#[test]
fn embeddings_are_pooled_and_of_length_one() {
    let engine = engine(|_| ());
    let inputs: Vec<Vec<u32>> = (1..40).map(|i| prompt(i, i as usize * 5)).collect();
    let vectors = engine.embed(inputs.clone()).unwrap();
    for (tokens, vector) in inputs.iter().zip(vectors) {
        let n = tokens.len() as f32;
        let sums = [tokens.iter().sum::<u32>() as f32, n * (n + 1.0) / 2.0, 0.0, n * tokens[0] as f32];
        let length = sums.iter().map(|v| v * v).sum::<f32>().sqrt();
        for (value, sum) in vector.iter().zip(sums) {
            assert!((value - sum / length).abs() < 1e-5);
        }
    }
    assert_eq!(engine.embed(vec![vec![]]).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(engine.embed(vec![vec![1; 1025]]).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(engine.embed(vec![vec![96]]).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(engine.metrics().kv_pages_used, 0);
    assert_eq!(engine.metrics().embedded, 39);
}

#[test]
fn adapters_come_and_go_by_name() {
    let engine = engine(|_| ());
    let files = AdapterFiles { weights: b"x", config: None };
    engine.load_adapter("tone", &files).unwrap();
    assert_eq!(engine.load_adapter("tone", &files).unwrap_err().code(), Code::Conflict);
    assert_eq!(
        engine.load_adapter("none", &AdapterFiles { weights: b"", config: None }).unwrap_err().code(),
        Code::InvalidInput
    );
    assert_eq!(engine.load_adapter("", &files).unwrap_err().code(), Code::InvalidRequest);
    assert_eq!(engine.adapters(), ["tone"]);
    let question = Request { adapter: Some("tone".into()), ..request(prompt(1, 40), 20) };
    let answer = engine.complete(question.clone()).unwrap();
    let want = expected(&prompt(1, 40), 20, Some(0), usize::MAX);
    assert_eq!(answer[0].tokens.iter().map(|t| t.id).collect::<Vec<_>>(), want);
    engine.unload_adapter("tone").unwrap();
    assert_eq!(engine.unload_adapter("tone").unwrap_err().code(), Code::NotFound);
    assert_eq!(engine.complete(question).unwrap_err().code(), Code::ModelNotFound);
}

#[test]
fn a_vocabulary_smaller_than_the_logits_is_never_left() {
    struct Small(FakeVocabulary);
    impl Vocabulary for Small {
        fn len(&self) -> usize {
            50
        }
        fn bytes(&self, token: u32) -> &[u8] {
            self.0.bytes(token)
        }
        fn ends(&self) -> &[u32] {
            self.0.ends()
        }
        fn is_control(&self, token: u32) -> bool {
            self.0.is_control(token)
        }
        fn encode(&self, text: &str) -> Vec<u32> {
            self.0.encode(text)
        }
    }
    let decoder = FakeDecoder::new(128, 1024, FakeClock::new());
    let vocabulary = Arc::new(Small(FakeVocabulary::new()));
    let engine = LanguageEngine::start(Box::new(decoder), vocabulary, &LanguageOptions::default()).unwrap();
    let answer = engine.complete(Request { ignore_eos: true, ..request(vec![5; 10], 200) }).unwrap();
    assert!(answer[0].tokens.iter().all(|token| token.id < 50));
}
