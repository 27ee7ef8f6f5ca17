//! What requests share.

use std::sync::atomic::Ordering;

use super::fake::expected;
use super::harness::{Rig, prompt, request};
use crate::lm::Request;

const ALL: usize = usize::MAX;

/// A prompt of a common beginning and a tail of its own.
fn with_tail(common: usize, seed: u32, tail: usize) -> Vec<u32> {
    let mut tokens = prompt(7, common);
    tokens.extend((0..tail as u32).map(|i| 1 + (seed * 13 + i * (seed + 3)) % 95));
    tokens
}

#[test]
fn a_prefix_is_computed_once() {
    let mut rig = Rig::new(256);
    let first = rig.ask(request(with_tail(100, 1, 20), 5));
    rig.finish();
    let before = rig.computed();
    let second = rig.ask(request(with_tail(100, 2, 20), 5));
    rig.finish();
    assert_eq!(second.ids(0), expected(&second.request.prompt, 5, None, ALL));
    assert_eq!(first.ids(0), expected(&first.request.prompt, 5, None, ALL));
    // Six full pages and the beginning of the seventh.
    assert_eq!(second.usage(0).cached_tokens, 100);
    assert_eq!(rig.computed() - before, 20 + 4);
    assert_eq!(rig.core.metrics.prefix_hit_tokens, 100);
    assert_eq!(rig.core.metrics.prefix_queried_tokens, 240);
}

#[test]
fn the_same_prompt_again_needs_one_token() {
    let mut rig = Rig::new(256);
    for tokens in [16, 32, 100, 96] {
        let question = Request { ignore_eos: true, ..request(prompt(tokens as u32, tokens), 1) };
        rig.ask(question.clone()).ticket.take().unwrap().keep();
        rig.finish();
        let before = rig.computed();
        let ask = rig.ask(question);
        rig.finish();
        // Full pages are kept; of the last full page all but the last token, whose logits are wanted.
        let kept = if tokens % 16 == 0 { tokens - 1 } else { tokens / 16 * 16 };
        assert_eq!(rig.computed() - before, tokens - kept, "{tokens}");
        assert_eq!(ask.usage(0).cached_tokens, kept);
    }
}

#[test]
fn answers_are_shared_with_the_next_turn() {
    let mut rig = Rig::new(256);
    let first = rig.ask(Request { ignore_eos: true, ..request(prompt(2, 40), 60) });
    rig.finish();
    let mut next = first.request.prompt.clone();
    next.extend(first.ids(0));
    next.extend(prompt(5, 10));
    let second = rig.ask(request(next.clone(), 5));
    rig.finish();
    assert_eq!(second.ids(0), expected(&next, 5, None, ALL));
    assert!(96 <= second.usage(0).cached_tokens);
}

#[test]
fn requests_wait_for_a_prefix_that_is_being_computed() {
    let mut rig = Rig::new(512);
    let asks: Vec<_> = (0..16).map(|seed| rig.ask(request(with_tail(1000, seed, 64), 8))).collect();
    rig.finish();
    let answers: usize = asks.iter().map(|ask| ask.ids(0).len() - 1).sum();
    let prompts = rig.computed() - answers;
    // One copy of the prefix; the eight tokens of its last page may be computed by each.
    assert!(prompts <= 1000 + 16 * (64 + 8), "{prompts}");
    for ask in asks {
        assert_eq!(ask.ids(0), expected(&ask.request.prompt, 8, None, ALL));
    }
}

#[test]
fn when_the_one_that_computes_a_prefix_leaves_another_takes_over() {
    let mut rig = Rig::new(512);
    let mut first = rig.ask(request(with_tail(1000, 0, 64), 8));
    rig.step();
    let others: Vec<_> = (1..6).map(|seed| rig.ask(request(with_tail(1000, seed, 64), 8))).collect();
    rig.step();
    drop(first.ticket.take());
    rig.finish();
    for ask in others {
        assert_eq!(ask.ids(0), expected(&ask.request.prompt, 8, None, ALL));
    }
    let answers = 5 * 8;
    assert!(rig.computed() <= 1064 + 5 * 72 + answers + 512, "{}", rig.computed());
}

#[test]
fn a_page_that_goes_on_otherwise_is_copied() {
    let mut rig = Rig::new(64);
    rig.ask(request(with_tail(40, 1, 40), 1)).ticket.take().unwrap().keep();
    rig.finish();
    let copies = rig.strings.copies.load(Ordering::SeqCst);
    let ask = rig.ask(request(with_tail(40, 2, 40), 30));
    rig.finish();
    assert_eq!(rig.strings.copies.load(Ordering::SeqCst), copies + 1);
    assert_eq!(ask.usage(0).cached_tokens, 40);
    assert_eq!(ask.ids(0), expected(&ask.request.prompt, 30, None, ALL));
}

#[test]
fn the_least_recently_used_prefix_goes_first() {
    let mut rig = Rig::new(12);
    let question = |seed| request(prompt(seed, 64), 1);
    for seed in [1, 2, 1, 3] {
        // Five pages each, four of them full.
        rig.ask(question(seed)).ticket.take().unwrap().keep();
        rig.finish();
    }
    let cached = |rig: &mut Rig, seed| {
        let ask = rig.ask(question(seed));
        rig.finish();
        ask.usage(0).cached_tokens
    };
    assert_eq!(cached(&mut rig, 1), 63);
    assert_eq!(cached(&mut rig, 3), 63);
    assert!(cached(&mut rig, 2) < 63);
}
