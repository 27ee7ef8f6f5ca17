//! Flipped bits of the decoder's weights, while it answers and while it rests.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bms_wire::{Code, Error, Result};

use super::fake::{FakeClock, FakeDecoder, FakeVocabulary, Strings, expected, good_weights};
use super::harness::{Rig, prompt, request};
use crate::lm::audit::Audit;
use crate::lm::{Guarding, LanguageEngine, LanguageMetrics, LanguageOptions, Repair, Request, WeightSource};

/// What a source was asked and told.
#[derive(Clone, Default)]
struct Told {
    repairs: Arc<Mutex<Vec<Repair>>>,
    lost: Arc<Mutex<Vec<Code>>>,
}

/// Gives weights as they were, or others.
struct Store {
    weights: Vec<Vec<u8>>,
    told: Told,
}

impl WeightSource for Store {
    fn part(&mut self, weight: usize, bytes: &Range<usize>) -> Result<Vec<u8>> {
        Ok(self.weights[weight][bytes.clone()].to_vec())
    }

    fn repaired(&mut self, repair: &Repair) {
        self.told.repairs.lock().unwrap().push(repair.clone());
    }

    fn lost(&mut self, error: Error) {
        self.told.lost.lock().unwrap().push(error.code());
    }
}

fn guarding(share: f64, weights: Vec<Vec<u8>>) -> (Guarding, Told) {
    let told = Told::default();
    (Guarding { share, source: Box::new(Store { weights, told: told.clone() }) }, told)
}

fn guarded(rig: &mut Rig, share: f64) -> Told {
    let (guarding, told) = guarding(share, good_weights());
    let now = rig.clock.now();
    rig.core.audit = Some(Audit::new(&mut *rig.core.decoder, guarding, now).unwrap());
    told
}

fn engine(weights: Vec<Vec<u8>>) -> (LanguageEngine, Strings, Told) {
    let decoder = FakeDecoder::new(128, 1024, FakeClock::new());
    let strings = decoder.strings.clone();
    let (guarding, told) = guarding(0.5, weights);
    let options = LanguageOptions { threads: 1, ..LanguageOptions::default() };
    let vocabulary = Arc::new(FakeVocabulary::new());
    let engine =
        LanguageEngine::start_guarded(Box::new(decoder), None, vocabulary, Some(guarding), &options).unwrap();
    (engine, strings, told)
}

/// The metrics, once they are as wanted.
fn wait(engine: &LanguageEngine, wanted: impl Fn(&LanguageMetrics) -> bool) -> LanguageMetrics {
    for _ in 0..10_000 {
        let metrics = engine.metrics();
        if wanted(&metrics) {
            return metrics;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("{:?}", engine.metrics());
}

#[test]
fn answers_go_on_over_a_flip_and_nothing_computed_with_it_is_read_again() {
    let mut rig = Rig::new(256);
    let told = guarded(&mut rig, 0.01);
    *rig.strings.flips.lock().unwrap() = vec![(6, 0, 3), (6, 39, 0), (9, 7, 14), (9, 7, 2)];
    let same = prompt(1, 60);
    let asks: Vec<_> = [same.clone(), same, prompt(2, 33)]
        .into_iter()
        .map(|tokens| rig.ask(Request { n: 2, ignore_eos: true, ..request(tokens, 24) }))
        .collect();
    while !rig.core.is_idle() {
        rig.step();
        // A weight at a time, as time allows: several calls for several damaged ones.
        (0..4).for_each(|_| rig.core.audit(&|| false).unwrap());
        rig.check();
    }
    rig.check_all_given_back();
    for ask in &asks {
        for index in 0..2 {
            assert_eq!(ask.failed(), None);
            assert_eq!(ask.ids(index).len(), 24);
        }
    }
    let metrics = &rig.core.metrics;
    assert_eq!((metrics.weights_faults, metrics.weights_repaired), (3, 3));
    assert!(4 < metrics.weights_audit_passes);
    let repairs = told.repairs.lock().unwrap();
    let places: Vec<_> = repairs.iter().map(|repair| (repair.weight, repair.bits)).collect();
    assert_eq!(places, [(0, 1), (39, 1), (7, 2)]);
    drop(repairs);
    // Prefixes of the time before are gone, not reused.
    let after = rig.ask(request(prompt(2, 33), 10));
    rig.finish();
    assert_eq!(after.ids(0), expected(&prompt(2, 33), 10, None, usize::MAX));
}

#[test]
fn the_audit_keeps_to_its_share() {
    for share in [0.01, 0.05, 0.5] {
        let mut rig = Rig::new(64);
        guarded(&mut rig, share);
        // Every look at the clock takes a while, hence every look at a block.
        let (clock, look) = (rig.clock.clone(), Duration::from_micros(50));
        rig.core.clock = Box::new(move || {
            clock.pass(look);
            clock.now()
        });
        let ask = rig.ask(Request { ignore_eos: true, ..request(prompt(1, 40), 400) });
        let (begin, mut audited) = (rig.clock.now(), Duration::ZERO);
        while !rig.core.is_idle() {
            rig.step();
            let before = rig.clock.now();
            rig.core.audit(&|| false).unwrap();
            // The first look at the clock is no work on a block.
            audited += rig.clock.now() - before - look;
        }
        let of_all = audited.as_secs_f64() / (rig.clock.now() - begin).as_secs_f64();
        assert_eq!(ask.ids(0).len(), 400);
        // Passes end an audit early, and beyond what was saved up nothing is made up for.
        assert!((0.1 * share..=1.02 * share).contains(&of_all), "{of_all} of {share}");
        assert!(0 < rig.core.metrics.weights_audit_passes);
    }
}

#[test]
fn an_engine_at_rest_finds_flips_too() {
    let (engine, strings, told) = engine(good_weights());
    // Recorded before anybody asks.
    wait(&engine, |metrics| 0 < metrics.weights_audit_passes);
    // In the last pass of the decoder, after which it rests.
    *strings.flips.lock().unwrap() = vec![(4, 20, 5)];
    let ask = Request { ignore_eos: true, speculate: false, ..request(prompt(3, 20), 5) };
    assert_eq!(engine.complete(ask.clone()).unwrap()[0].tokens.len(), 5);
    let metrics = wait(&engine, |metrics| metrics.weights_repaired == 1);
    assert_eq!((metrics.weights_faults, metrics.running), (1, 0));
    assert!(told.lost.lock().unwrap().is_empty());
    assert_eq!(engine.complete(ask).unwrap()[0].tokens.len(), 5);
}

#[test]
fn what_cannot_be_put_back_ends_the_engine_with_a_reason() {
    let mut other = good_weights();
    other[11][4] ^= 1;
    let (engine, strings, told) = engine(other);
    wait(&engine, |metrics| 0 < metrics.weights_audit_passes);
    *strings.flips.lock().unwrap() = vec![(3, 11, 0)];
    let failed = engine.complete(Request { ignore_eos: true, ..request(prompt(3, 20), 900) }).unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable);
    let patience = Instant::now();
    while told.lost.lock().unwrap().is_empty() && patience.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(*told.lost.lock().unwrap(), [Code::Tampered]);
    assert_eq!((engine.metrics().weights_faults, engine.metrics().weights_repaired), (1, 0));
    let refused = engine.complete(request(prompt(3, 20), 5)).unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
}

#[test]
fn a_share_that_is_none_is_refused() {
    for share in [0.0, -1.0, 0.6, f64::NAN] {
        let mut decoder = FakeDecoder::new(8, 64, FakeClock::new());
        let refused = Audit::new(&mut decoder, guarding(share, good_weights()).0, Instant::now());
        assert_eq!(refused.err().map(|error| error.code()), Some(Code::InvalidInput), "{share}");
    }
}
