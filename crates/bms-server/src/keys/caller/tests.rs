use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_wire::api::{KeyLimits, Role};
use bms_wire::{Code, limits};
use bytes::Bytes;

use super::Caller;
use crate::keys::Keys;
use crate::keys::tests::keys_with;

fn caller(limits: KeyLimits) -> (Arc<Keys>, Arc<Caller>) {
    let keys = keys_with(Role::User, limits);
    let caller = keys.table().callers.values().next().unwrap().clone();
    (keys, caller)
}

#[test]
fn requests_of_a_minute_are_limited_and_refusals_are_free() {
    let (_keys, caller) = caller(KeyLimits { requests_per_minute: Some(2), ..KeyLimits::default() });
    assert!(caller.admit().is_ok() && caller.admit().is_ok());
    let refused = caller.admit().unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.pause().unwrap() <= Duration::from_secs(30));
    assert_eq!(caller.unwritten()[0].requests, 2);
}

#[test]
fn tokens_are_taken_by_estimate_and_settled_by_what_was_said() {
    let allowed =
        KeyLimits { tokens_per_minute: Some(600), requests_per_minute: Some(60), ..KeyLimits::default() };
    let (_keys, caller) = caller(allowed);
    let ticket = caller.admit().unwrap();
    ticket.generates(100, 400).unwrap();
    assert!((100..200).contains(&caller.standings()[1].unwrap().remaining));
    let second = caller.admit().unwrap();
    let refused = second.generates(0, 400).unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.pause().unwrap() <= Duration::from_secs(30));
    let requests = caller.unwritten()[0].requests;
    assert!(requests == 1 && 59 <= caller.standings()[0].unwrap().remaining, "what is refused is no request");
    second.failed();
    drop(second);
    ticket.said(&Bytes::from_static(br#"{"usage":{"prompt_tokens":40,"completion_tokens":10}}"#));
    drop(ticket);
    assert!((550..600).contains(&caller.standings()[1].unwrap().remaining));
    assert_eq!(caller.unwritten()[0].tokens, 50);
    let failed = caller.admit().unwrap();
    failed.generates(0, 300).unwrap();
    failed.failed();
    drop(failed);
    assert!((550..600).contains(&caller.standings()[1].unwrap().remaining));
}

#[test]
fn an_answer_that_was_there_already_is_a_request_and_takes_no_tokens() {
    let (_keys, caller) = caller(KeyLimits { tokens_per_minute: Some(600), ..KeyLimits::default() });
    let ticket = caller.admit().unwrap();
    ticket.generates(100, 400).unwrap();
    ticket.costs_nothing();
    ticket.said(&Bytes::from_static(br#"{"usage":{"prompt_tokens":40,"completion_tokens":10}}"#));
    drop(ticket);
    assert!(595 <= caller.standings()[1].unwrap().remaining);
    let counted = caller.unwritten()[0].clone();
    assert_eq!((counted.requests, counted.tokens), (1, 0));
}

#[test]
fn a_day_counts_what_all_replicas_counted_and_ends() {
    let (keys, caller) = caller(KeyLimits { requests_per_day: Some(10), ..KeyLimits::default() });
    caller.hear(0, 8, 0);
    assert!(caller.admit().is_ok() && caller.admit().is_ok());
    let refused = caller.admit().unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.pause().unwrap() <= Duration::from_secs(24 * 3600));
    keys.shared.day.store(1, Ordering::Relaxed);
    assert!(caller.admit().is_ok());
    let unwritten = caller.unwritten();
    assert_eq!(unwritten.iter().map(|used| (used.day, used.requests)).collect::<Vec<_>>(), [(0, 2), (1, 1)]);
    caller.was_written(false);
    assert_eq!(caller.unwritten().len(), 2, "what was not written is written the next time");
    caller.was_written(true);
    assert_eq!(caller.unwritten(), []);
}

#[test]
fn what_other_replicas_let_in_is_taken_off_here_once() {
    let (_keys, caller) = caller(KeyLimits { requests_per_minute: Some(60), ..KeyLimits::default() });
    caller.hear(0, 1000, 0);
    assert_eq!(caller.standings()[0].unwrap().remaining, 60, "what was before this process began is past");
    caller.hear(0, 1050, 0);
    caller.hear(0, 1050, 0);
    assert!((10..30).contains(&caller.standings()[0].unwrap().remaining));
}

#[test]
fn open_requests_are_limited_and_half_of_a_queue_is_left_for_others() {
    let (_keys, caller) = caller(KeyLimits { concurrent: Some(1), ..KeyLimits::default() });
    let ticket = caller.admit().unwrap();
    assert_eq!(caller.admit().unwrap_err().code(), Code::RateLimited);
    drop(ticket);
    assert!(caller.admit().is_ok());

    let (_keys, caller) = self::caller(KeyLimits::default());
    let tickets: Vec<_> = (0..=limits::LANGUAGE_REQUESTS_MAX / 2).map(|_| caller.admit().unwrap()).collect();
    let (last, most) = tickets.split_last().unwrap();
    most.iter().for_each(|ticket| ticket.asks("m", true).unwrap());
    assert_eq!(last.asks("m", true).unwrap_err().code(), Code::QueueFull);
    last.asks("another", true).unwrap();
    drop(tickets);
    caller.admit().unwrap().asks("m", true).unwrap();
    let (_keys, first) = self::caller(KeyLimits { priority: true, ..KeyLimits::default() });
    let tickets: Vec<_> = (0..limits::LANGUAGE_REQUESTS_MAX).map(|_| first.admit().unwrap()).collect();
    tickets.iter().for_each(|ticket| ticket.asks("m", true).unwrap());
}

#[test]
fn a_key_for_some_models_asks_no_others() {
    let (_keys, caller) = caller(KeyLimits { models: vec!["digits".into()], ..KeyLimits::default() });
    let ticket = caller.admit().unwrap();
    assert_eq!(ticket.asks("other", false).unwrap_err().code(), Code::PermissionDenied);
    ticket.asks("digits", false).unwrap();
}
