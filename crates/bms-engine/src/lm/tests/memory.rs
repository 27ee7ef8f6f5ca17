//! Little memory: preemption, and no deadlock.

use super::fake::expected;
use super::harness::{Rig, bounds, prompt, request};
use crate::lm::core::Bounds;
use crate::lm::{FinishReason, Request};

const ALL: usize = usize::MAX;

#[test]
fn answers_that_do_not_fit_together_are_computed_all_the_same() {
    let mut rig = Rig::new(12);
    let asks: Vec<_> =
        (0..10).map(|seed| rig.ask(Request { ignore_eos: true, ..request(prompt(seed, 20), 100) })).collect();
    rig.finish();
    assert!(0 < rig.core.metrics.preemptions, "memory was short");
    for ask in asks {
        let answer = ask.ids(0);
        assert_eq!(answer.len(), 100);
        let mut history = ask.request.prompt.clone();
        for token in answer {
            let logits = super::fake::logits_after(&history, None, ALL);
            // The end token is forbidden; of the others the best.
            let best = (1..96).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a))).unwrap();
            assert_eq!(token as usize, best);
            history.push(token);
        }
    }
}

#[test]
fn one_request_may_fill_the_whole_memory() {
    let mut rig = Rig::new(8);
    let small = rig.ask(request(prompt(1, 20), 50));
    let large = rig.ask(Request { ignore_eos: true, ..request(prompt(2, 100), 28) });
    let other = rig.ask(request(prompt(3, 20), 50));
    rig.finish();
    assert_eq!(large.ids(0).len(), 28);
    for ask in [small, other] {
        assert_eq!(ask.ids(0), expected(&ask.request.prompt, 50, None, ALL));
    }
}

#[test]
fn many_answers_to_one_prompt_do_not_need_to_fit() {
    let mut rig = Rig::with(10, Bounds { sequences_max: 4, ..bounds() }, ALL);
    let ask = rig.ask(Request { n: 12, ignore_eos: true, ..request(prompt(2, 70), 80) });
    rig.finish();
    for index in 0..12 {
        assert_eq!((ask.ids(index).len(), ask.reason(index)), (80, Some(FinishReason::Length)));
    }
}

#[test]
fn a_higher_priority_takes_memory_and_is_done_first() {
    let mut rig = Rig::new(10);
    let low = rig.ask(Request { ignore_eos: true, priority: -1, ..request(prompt(1, 60), 80) });
    for _ in 0..5 {
        rig.step();
    }
    let high = rig.ask(Request { ignore_eos: true, priority: 1, ..request(prompt(2, 60), 80) });
    while !high.is_over() {
        assert!(rig.step());
    }
    assert!(!low.is_over());
    assert_eq!(rig.core.metrics.preemptions, 1);
    rig.finish();
    assert_eq!(low.ids(0).len(), 80);
}

#[test]
fn a_small_memory_with_shared_prefixes_does_not_lock_up() {
    for pages in [5, 6, 8, 11, 16] {
        let mut rig = Rig::new(pages);
        let asks: Vec<_> = (0..12u32)
            .map(|seed| {
                let mut tokens = prompt(7, 40);
                tokens.extend(prompt(seed, 5 + seed as usize % 7));
                rig.ask(Request { priority: (seed % 3) as i32, ..request(tokens, 20) })
            })
            .collect();
        rig.finish();
        for ask in asks {
            assert_eq!(ask.ids(0), expected(&ask.request.prompt, 20, None, ALL), "{pages}");
        }
    }
}
