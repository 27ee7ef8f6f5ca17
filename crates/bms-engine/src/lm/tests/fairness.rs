//! Tenants and priorities.

use super::harness::{Rig, bounds, prompt, request};
use crate::lm::core::Bounds;
use crate::lm::{FinishReason, Request};
use std::time::Duration;

#[test]
fn a_tenant_with_many_requests_does_not_hold_up_another() {
    let mut rig = Rig::with(256, Bounds { sequences_max: 4, ..bounds() }, usize::MAX);
    let ask = |rig: &mut Rig, tenant: &str, seed| {
        rig.ask(Request { tenant: tenant.to_owned(), ignore_eos: true, ..request(prompt(seed, 100), 30) })
    };
    let many: Vec<_> = (0..60).map(|seed| ask(&mut rig, "many", seed)).collect();
    for _ in 0..5 {
        rig.step();
    }
    let few: Vec<_> = (100..104).map(|seed| ask(&mut rig, "few", seed)).collect();
    while !few.iter().all(|ask| ask.is_over()) {
        assert!(rig.step());
    }
    let before = many.iter().filter(|ask| ask.is_over()).count();
    assert!(before <= 16, "{before} of the others were served first");
    rig.finish();
    assert!(many.iter().all(|ask| ask.ids(0).len() == 30));
}

#[test]
fn tenants_get_the_same_number_of_tokens() {
    let mut rig = Rig::with(256, Bounds { sequences_max: 4, ..bounds() }, usize::MAX);
    // One sends few long requests, the other many short ones.
    let long: Vec<_> = (0..30)
        .map(|seed| {
            rig.ask(Request { tenant: "a".into(), ignore_eos: true, ..request(prompt(seed, 200), 100) })
        })
        .collect();
    let short: Vec<_> = (100..400)
        .map(|seed| {
            rig.ask(Request { tenant: "b".into(), ignore_eos: true, ..request(prompt(seed, 20), 10) })
        })
        .collect();
    for _ in 0..400 {
        rig.step();
    }
    let done = |asks: &[super::harness::Ask], cost: usize| asks.iter().filter(|a| a.is_over()).count() * cost;
    let (a, b) = (done(&long, 200 + 200), done(&short, 20 + 20));
    assert!(0 < a && 0 < b);
    assert!((a as f64 / b as f64 - 1.0).abs() < 0.35, "{a} and {b}");
    rig.finish();
}

#[test]
fn priorities_go_first_and_waiting_makes_up_for_them() {
    let mut rig = Rig::with(64, Bounds { sequences_max: 1, ..bounds() }, usize::MAX);
    let ask = |rig: &mut Rig, priority, seed| {
        rig.ask(Request { priority, ignore_eos: true, ..request(prompt(seed, 10), 5) })
    };
    let first = ask(&mut rig, 0, 0);
    rig.step();
    let low = ask(&mut rig, 0, 1);
    let high = ask(&mut rig, 5, 2);
    while !high.is_over() {
        rig.step();
    }
    // The first one gave way, and the other has not begun.
    assert!(!low.is_over() && !first.is_over());
    rig.finish();
    // One of higher priority every 100 ms, for ever: the other one is served at last.
    let low = ask(&mut rig, 0, 3);
    let mut seed = 10;
    while !low.is_over() {
        seed += 1;
        assert!(seed < 2000, "it starves");
        let _high = ask(&mut rig, 2, seed);
        rig.step();
        rig.clock.pass(Duration::from_millis(100));
    }
}

#[test]
fn the_overdue_and_the_unwanted_end_wherever_they_are() {
    let mut rig = Rig::with(64, Bounds { sequences_max: 2, ..bounds() }, usize::MAX);
    let deadline = Some(rig.clock.now() + Duration::from_millis(200));
    let running = rig.ask(Request { deadline, ignore_eos: true, ..request(prompt(1, 10), 500) });
    let mut unwanted = rig.ask(Request { ignore_eos: true, n: 3, ..request(prompt(2, 10), 500) });
    let waiting = rig.ask(Request { deadline, n: 2, ..request(prompt(3, 10), 5) });
    let mut gone = rig.ask(request(prompt(4, 10), 5));
    for _ in 0..3 {
        rig.step();
    }
    drop(gone.ticket.take());
    rig.step();
    assert_eq!(gone.reason(0), Some(FinishReason::Cancelled));
    drop(unwanted.ticket.take());
    rig.step();
    for index in 0..3 {
        assert_eq!(unwanted.reason(index), Some(FinishReason::Cancelled));
    }
    rig.finish();
    assert_eq!(running.reason(0), Some(FinishReason::Deadline));
    assert!(!running.ids(0).is_empty());
    for index in 0..2 {
        assert!(matches!(
            waiting.reason(index),
            Some(FinishReason::Deadline | FinishReason::Stop | FinishReason::Length)
        ));
    }
    assert_eq!(rig.core.metrics.cancelled, 4);
}

#[test]
fn a_request_that_leaves_before_its_prompt_is_computed_ends_all_its_answers() {
    let mut rig = Rig::new(256);
    let mut ask = rig.ask(Request { n: 4, ..request(prompt(1, 2000), 5) });
    rig.step();
    drop(ask.ticket.take());
    rig.step();
    for index in 0..4 {
        assert_eq!(ask.reason(index), Some(FinishReason::Cancelled));
    }
    rig.finish();
}
