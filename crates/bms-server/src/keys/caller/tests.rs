use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bms_registry::{KeyUse, OthersUse, Spent};
use bms_wire::api::{KeyLimits, Quota, Role};
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
    assert_eq!(written(&caller).requests.used, 2);
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
    let requests = written(&caller).requests.used;
    assert!(requests == 1 && 59 <= caller.standings()[0].unwrap().remaining, "what is refused is no request");
    second.failed();
    drop(second);
    ticket.said(&Bytes::from_static(br#"{"usage":{"prompt_tokens":40,"completion_tokens":10}}"#));
    drop(ticket);
    assert!((550..600).contains(&caller.standings()[1].unwrap().remaining));
    assert_eq!(written(&caller).tokens.used, 50);
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
    let counted = written(&caller);
    assert_eq!((counted.requests.used, counted.tokens.used), (1, 0));
}

/// The key's line of what is to be written.
fn written(caller: &Caller) -> KeyUse {
    let uses = caller.tell(caller.shared.moment());
    uses.into_iter().find(|used| used.model.is_empty()).unwrap()
}

/// What others counted of the key.
fn hear(caller: &Caller, requests: u64) {
    let requests = Spent { used: requests, held: requests };
    let heard = OthersUse { requests, ..OthersUse::default() };
    caller.hear(Some(&[(String::new(), heard)].into()), caller.shared.moment());
}

#[test]
fn a_day_counts_what_all_replicas_counted_and_ends() {
    let (keys, caller) = caller(KeyLimits { requests_per_day: Some(10), ..KeyLimits::default() });
    hear(&caller, 8);
    assert!(caller.admit().is_ok() && caller.admit().is_ok());
    let refused = caller.admit().unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.pause().unwrap() <= Duration::from_secs(24 * 3600));
    keys.shared.day.store(1, Ordering::Relaxed);
    assert!(caller.admit().is_ok());
    let tell = || caller.tell(caller.shared.moment());
    let unwritten: Vec<_> = tell().iter().map(|used| (used.day, used.requests.used)).collect();
    assert_eq!(unwritten, [(0, 2), (1, 1)]);
    caller.was_written(false);
    assert_eq!(tell().len(), 2, "what was not written is written the next time");
    caller.was_written(true);
    assert_eq!(tell(), []);
}

#[test]
fn what_other_replicas_let_in_is_taken_off_here_once() {
    let (_keys, caller) = caller(KeyLimits { requests_per_minute: Some(60), ..KeyLimits::default() });
    hear(&caller, 1000);
    assert_eq!(caller.standings()[0].unwrap().remaining, 60, "what was before this process began is past");
    hear(&caller, 1050);
    hear(&caller, 1050);
    assert!((10..30).contains(&caller.standings()[0].unwrap().remaining));
}

/// Limits for the model `big` alone.
fn of_big(quota: Quota) -> BTreeMap<String, Quota> {
    [("big".to_owned(), quota)].into()
}

#[test]
fn a_request_is_within_the_limits_of_its_key_and_of_its_model_or_counts_for_neither() {
    let per_model = of_big(Quota { requests_per_day: Some(2), ..Quota::default() });
    let (_keys, caller) = caller(KeyLimits {
        requests_per_day: Some(4),
        requests_per_minute: Some(60),
        per_model,
        ..KeyLimits::default()
    });
    for _ in 0..2 {
        caller.admit().unwrap().asks("big", false).unwrap();
    }
    let refused = caller.admit().unwrap().asks("big", false).unwrap_err();
    assert_eq!(refused.code(), Code::RateLimited);
    assert!(refused.to_string().contains("of the model `big`"), "{refused}");
    assert!(58 <= caller.standings()[0].unwrap().remaining);
    for _ in 0..2 {
        caller.admit().unwrap().asks("small", false).unwrap();
    }
    assert_eq!(caller.admit().unwrap_err().code(), Code::RateLimited);
    let uses = caller.tell(caller.shared.moment());
    let counted: Vec<_> = uses.iter().map(|used| (used.model.as_str(), used.requests.used)).collect();
    assert_eq!(counted, [("", 4), ("big", 2)], "models without limits are not counted");
}

#[test]
fn tokens_are_taken_off_both_limits_or_none_and_settled_at_both() {
    let per_model =
        of_big(Quota { tokens_per_minute: Some(300), tokens_per_month: Some(1000), ..Quota::default() });
    let (_keys, caller) =
        caller(KeyLimits { tokens_per_minute: Some(600), per_model, ..KeyLimits::default() });
    let left = || caller.standings()[1].unwrap().remaining;
    let ask = |model: &str| {
        let ticket = caller.admit().unwrap();
        ticket.asks(model, true).unwrap();
        ticket
    };
    let first = ask("big");
    first.generates(50, 200).unwrap();
    let second = ask("big");
    let refused = second.generates(0, 200).unwrap_err();
    assert!(refused.to_string().contains("300 tokens a minute of the model `big`"), "{refused}");
    drop(second);
    assert!((350..370).contains(&left()), "what the model refuses is not taken off the key: {}", left());
    let third = ask("small");
    third.generates(0, 340).unwrap();
    let refused = ask("big").generates(0, 40).unwrap_err();
    assert!(
        refused.to_string().contains("600 tokens a minute") && !refused.to_string().contains("big"),
        "{refused}"
    );
    third.failed();
    drop(third);
    first.said(&Bytes::from_static(br#"{"usage":{"prompt_tokens":40,"completion_tokens":10}}"#));
    drop(first);
    assert!(545 <= left());
    ask("big").generates(0, 240).unwrap();
    let uses = caller.tell(caller.shared.moment());
    let counted: Vec<_> =
        uses.iter().map(|used| (used.model.as_str(), used.requests.used, used.tokens.used)).collect();
    assert_eq!(counted, [("", 3, 50 + 240), ("big", 2, 50 + 240)]);
}

#[test]
fn open_requests_of_a_model_are_limited_and_limits_that_go_and_come_forget_nothing() {
    let (keys, caller) = caller(KeyLimits {
        per_model: of_big(Quota { concurrent: Some(1), ..Quota::default() }),
        ..KeyLimits::default()
    });
    let first = caller.admit().unwrap();
    first.asks("big", false).unwrap();
    assert_eq!(caller.admit().unwrap().asks("big", false).unwrap_err().code(), Code::RateLimited);
    caller.admit().unwrap().asks("small", false).unwrap();
    drop(first);
    caller.admit().unwrap().asks("big", false).unwrap();
    let mut stored = caller.stored.clone();
    stored.key.limits.per_model.clear();
    keys.replace(2, vec![stored.clone()]);
    stored.key.limits.per_model = of_big(Quota { requests_per_day: Some(3), ..Quota::default() });
    keys.replace(3, vec![stored]);
    let caller = keys.table().callers.values().next().unwrap().clone();
    caller.admit().unwrap().asks("big", false).unwrap();
    assert_eq!(caller.admit().unwrap().asks("big", false).unwrap_err().code(), Code::RateLimited);
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
