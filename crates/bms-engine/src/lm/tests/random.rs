//! Workloads nobody thought of.

use super::fake::expected;
use super::harness::{Ask, Rig, bounds, prompt, request};
use crate::lm::core::Bounds;
use crate::lm::random::uniform;
use crate::lm::{FinishReason, Request, Sampling};

/// Numbers of one workload.
struct Dice {
    seed: u64,
    place: usize,
}

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.place += 1;
        (uniform(self.seed, 0, self.place) * n as f64) as usize
    }

    /// A beginning that many share, and a tail.
    fn prompt(&mut self, most: usize) -> Vec<u32> {
        let mut tokens = prompt(self.below(3) as u32, self.below(most / 2));
        tokens.extend(prompt(self.below(4) as u32, 1 + self.below(most / 3)));
        tokens
    }
}

fn workload(seed: u64) {
    let mut dice = Dice { seed, place: 0 };
    let pages = 6 + dice.below(40);
    let memory = if dice.below(2) == 0 { usize::MAX } else { 2 };
    let limits = Bounds {
        sequences_max: 1 + dice.below(8),
        speculate: dice.below(2) == 0,
        chunk_max: 16 + dice.below(200),
        ..bounds()
    };
    let mut rig = Rig::with(pages, limits, memory);
    let mut asks: Vec<(Ask, Option<usize>, bool)> = Vec::new();
    for _ in 0..40 {
        let tokens = dice.prompt(pages * 16);
        let room = (pages * 16 - tokens.len()).min(60);
        let adapter = [None, None, Some(0), Some(1)][dice.below(4)];
        let question = Request {
            n: 1 + dice.below(4) / 3 * dice.below(4),
            priority: dice.below(3) as i32,
            tenant: format!("t{}", dice.below(3)),
            prompt_logprobs: (dice.below(8) == 0).then_some(1),
            ..request(tokens, 1 + dice.below(room.max(1)).min(room.saturating_sub(1)))
        };
        asks.push((rig.ask_with(question, adapter), adapter, false));
        for _ in 0..dice.below(12) {
            rig.step();
        }
        if dice.below(4) == 0 {
            let at = dice.below(asks.len());
            asks[at].2 |= asks[at].0.ticket.take().is_some();
        }
    }
    rig.finish();
    for (ask, adapter, left) in asks {
        let want = expected(&ask.request.prompt, ask.request.max_tokens.unwrap(), adapter, memory);
        for index in 0..ask.request.n {
            let (ids, reason) = (ask.ids(index), ask.reason(index).expect("every answer ends"));
            match reason {
                FinishReason::Cancelled => assert!(left && want.starts_with(&ids)),
                _ => assert_eq!(ids, want, "seed {seed}"),
            }
        }
        assert_eq!(ask.failed(), None);
    }
}

#[test]
fn every_answer_is_right_and_no_page_is_lost() {
    for seed in 0..60 {
        workload(seed);
    }
}

#[test]
fn sampled_answers_do_not_depend_on_what_else_runs() {
    let question = |seed: u32| Request {
        sampling: Sampling { temperature: 0.9, top_p: 0.9, seed: Some(seed.into()), ..Sampling::default() },
        ..request(prompt(seed, 30), 30)
    };
    let alone: Vec<Vec<u32>> = (0..10)
        .map(|seed| {
            let mut rig = Rig::new(64);
            let ask = rig.ask(question(seed));
            rig.finish();
            ask.ids(0)
        })
        .collect();
    let mut rig = Rig::with(14, Bounds { speculate: true, ..bounds() }, usize::MAX);
    let asks: Vec<_> = (0..10).map(|seed| rig.ask(question(seed))).collect();
    rig.finish();
    assert!(0 < rig.core.metrics.preemptions);
    assert_eq!(asks.iter().map(|ask| ask.ids(0)).collect::<Vec<_>>(), alone);
}
