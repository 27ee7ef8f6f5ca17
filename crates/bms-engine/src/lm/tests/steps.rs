//! How steps are made up: prompts do not stall answers.

use std::time::Duration;

use super::harness::{Rig, bounds, prompt, request};
use crate::lm::core::Bounds;
use crate::lm::{Request, Sampling};

#[test]
fn a_long_prompt_alone_is_computed_in_large_pieces() {
    let mut rig = Rig::new(256);
    rig.ask(request(prompt(1, 2000), 2)).ticket.take().unwrap().keep();
    rig.finish();
    let batches = rig.strings.batches.lock().unwrap();
    let pieces: Vec<usize> = batches.iter().map(|b| b.segments[0].0).collect();
    assert_eq!(pieces[..4], [512, 512, 512, 464]);
}

#[test]
fn long_prompts_do_not_stall_running_answers() {
    let mut rig = Rig::new(1024);
    let answers: Vec<_> =
        (0..8).map(|seed| rig.ask(Request { ignore_eos: true, ..request(prompt(seed, 30), 300) })).collect();
    for _ in 0..30 {
        rig.step();
    }
    let prompts: Vec<_> = (10..14).map(|seed| rig.ask(request(prompt(seed, 2000), 10))).collect();
    rig.finish();
    for ask in answers {
        let heard = ask.heard.lock().unwrap();
        let times = &heard.times[&0];
        let worst = times.windows(2).skip(20).map(|w| w[1] - w[0]).max().unwrap();
        // The target is 80 ms.
        assert!(worst <= Duration::from_millis(100), "{worst:?}");
    }
    // 8000 tokens at 1 ms, and a pass of 20 ms for about 50 of them: no starvation either.
    for ask in prompts {
        let heard = ask.heard.lock().unwrap();
        let took = heard.times[&0][0] - rig_begin(&rig);
        assert!(took < Duration::from_secs(14), "{took:?}");
    }
}

fn rig_begin(rig: &Rig) -> std::time::Instant {
    // The fake clock began at its first reading; all steps together took what it shows now.
    let batches = rig.strings.batches.lock().unwrap();
    let tokens: u64 = batches.iter().flat_map(|b| &b.segments).map(|(tokens, _)| *tokens as u64).sum();
    rig.clock.now() - Duration::from_millis(20 * batches.len() as u64 + tokens)
}

#[test]
fn every_answer_gets_a_token_in_every_step() {
    let mut rig = Rig::new(512);
    let asks: Vec<_> =
        (0..12).map(|seed| rig.ask(Request { ignore_eos: true, ..request(prompt(seed, 40), 50) })).collect();
    rig.finish();
    for ask in asks {
        assert_eq!(ask.heard.lock().unwrap().times[&0].len(), 50);
    }
    let steps = rig.strings.batches.lock().unwrap().len();
    assert!(steps < 50 + 20, "{steps}");
}

#[test]
fn the_same_workload_makes_the_same_steps() {
    let run = || {
        let mut rig = Rig::with(40, Bounds { speculate: true, ..bounds() }, 3);
        for seed in 0..20 {
            let sampling = Sampling { temperature: 0.7, seed: Some(seed.into()), ..Sampling::default() };
            let question = Request {
                sampling,
                n: 1 + seed as usize % 3,
                tenant: format!("t{}", seed % 4),
                ..request(prompt(seed, 50), 40)
            };
            rig.ask(question).ticket.take().unwrap().keep();
            rig.step();
        }
        rig.finish();
        let batches = rig.strings.batches.lock().unwrap();
        batches.iter().map(|b| b.segments.clone()).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
