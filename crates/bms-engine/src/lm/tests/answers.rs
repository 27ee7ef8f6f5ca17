//! What an answer is and how it ends.

use super::fake::{END, expected};
use super::harness::{Rig, prompt, request};
use crate::lm::{Constraint, FinishReason, Request, Sampling};

const ALL: usize = usize::MAX;

#[test]
fn a_greedy_answer_is_what_the_decoder_says() {
    let mut rig = Rig::new(64);
    for tokens in [1, 15, 16, 17, 33, 100] {
        let ask = rig.ask(Request { ignore_eos: false, ..request(prompt(tokens as u32, tokens), 40) });
        rig.finish();
        let want = expected(&ask.request.prompt, 40, None, ALL);
        assert_eq!(ask.ids(0), want, "{tokens}");
        let reason = if want.last() == Some(&END) { FinishReason::Stop } else { FinishReason::Length };
        assert_eq!(ask.reason(0), Some(reason));
        let usage = ask.usage(0);
        assert_eq!((usage.prompt_tokens, usage.completion_tokens), (tokens, want.len()));
    }
}

#[test]
fn many_answers_at_once_are_as_if_each_was_alone() {
    let mut rig = Rig::new(256);
    let asks: Vec<_> = (0..40).map(|i| rig.ask(request(prompt(i, 5 + i as usize * 7), 30))).collect();
    rig.finish();
    for ask in asks {
        assert_eq!(ask.ids(0), expected(&ask.request.prompt, 30, None, ALL));
    }
}

#[test]
fn several_answers_share_the_prompt_and_then_differ() {
    let mut rig = Rig::new(64);
    let sampling = Sampling { temperature: 1.0, seed: Some(5), ..Sampling::default() };
    let question = Request { n: 5, sampling, ignore_eos: true, ..request(prompt(3, 50), 20) };
    let ask = rig.ask(question.clone());
    rig.finish();
    let answers: Vec<Vec<u32>> = (0..5).map(|index| ask.ids(index)).collect();
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.len(), 20);
        assert!(answers[i + 1..].iter().all(|other| other != answer));
    }
    // The prompt once, and every answer's tokens but the last.
    assert_eq!(rig.computed(), 50 + 5 * 19);
    let again = rig.ask(question);
    let _beside = rig.ask(request(prompt(9, 30), 40));
    rig.finish();
    assert_eq!(
        (0..5).map(|index| again.ids(index)).collect::<Vec<_>>(),
        answers,
        "a seed gives the same again"
    );
}

#[test]
fn n_of_a_greedy_answer_are_the_same() {
    let mut rig = Rig::new(64);
    let ask = rig.ask(Request { n: 4, ..request(prompt(3, 23), 20) });
    rig.finish();
    let want = expected(&ask.request.prompt, 20, None, ALL);
    (0..4).for_each(|index| assert_eq!(ask.ids(index), want));
}

#[test]
fn stop_strings_and_stop_tokens_end_an_answer() {
    let mut rig = Rig::new(64);
    let plain = rig.ask(Request { ignore_eos: true, ..request(prompt(8, 20), 40) });
    rig.finish();
    let (text, ids) = (plain.text(0), plain.ids(0));
    let stop = text[10..13].to_owned();
    let at = text.find(&stop).unwrap();
    let ask = rig.ask(Request { stop: vec!["\u{1}".into(), stop.clone()], ..plain.request.clone() });
    rig.finish();
    assert_eq!(ask.reason(0), Some(FinishReason::StopString(stop)));
    assert_eq!(ask.text(0), text[..at]);

    let token = ids[5];
    let ask = rig.ask(Request { stop_tokens: vec![token], ..plain.request.clone() });
    rig.finish();
    let end = ids.iter().position(|id| *id == token).unwrap();
    assert_eq!((ask.reason(0), ask.ids(0)), (Some(FinishReason::Stop), ids[..=end].to_vec()));
    assert_eq!(ask.text(0), text[..end], "the stop token is not part of the text");

    let ask = rig.ask(Request { stop_tokens: vec![token], min_tokens: 20, ..plain.request.clone() });
    rig.finish();
    let ids = ask.ids(0);
    assert!(20 <= ids.len() && !ids[..20].contains(&token));
}

#[test]
fn end_tokens_do_not_come_when_they_are_to_be_ignored() {
    let mut rig = Rig::new(256);
    for seed in 0..20 {
        let ask = rig.ask(Request { ignore_eos: true, ..request(prompt(seed, 20), 100) });
        rig.finish();
        assert!(!ask.ids(0).contains(&END));
        assert_eq!((ask.ids(0).len(), ask.reason(0)), (100, Some(FinishReason::Length)));
    }
}

#[test]
fn without_a_length_the_context_ends_an_answer() {
    let mut rig = Rig::new(8);
    let ask = rig.ask(Request { max_tokens: None, ignore_eos: true, ..Request::new(prompt(1, 100)) });
    rig.finish();
    assert_eq!((ask.ids(0).len(), ask.reason(0)), (28, Some(FinishReason::Length)));
}

#[test]
fn a_prompts_log_probabilities_come_first() {
    let mut rig = Rig::new(64);
    let tokens = prompt(4, 150);
    rig.ask(request(tokens.clone(), 5)).ticket.take().unwrap().keep();
    rig.finish();
    let before = rig.computed();
    let ask = rig.ask(Request {
        prompt_logprobs: Some(2),
        n: 2,
        max_tokens: Some(0),
        ..Request::new(tokens.clone())
    });
    rig.finish();
    assert_eq!(rig.computed() - before, 150, "a cached prefix has no logits");
    let heard = ask.heard.lock().unwrap();
    let (text, out) = heard.prompt.as_ref().unwrap();
    assert_eq!((text.len(), out.len()), (150, 150));
    assert_eq!(out[0].logprob, None);
    for at in 1..150 {
        assert_eq!(out[at].id, tokens[at]);
        let logits = super::fake::logits_after(&tokens[..at], None, ALL);
        let sum: f32 = logits.iter().map(|l| l.exp()).sum();
        let want = logits[tokens[at] as usize] - sum.ln();
        assert!((out[at].logprob.unwrap() - want).abs() < 1e-4, "{at}");
        assert_eq!(out[at].top.len(), 2);
        assert!(out[at].top[1].1 <= out[at].top[0].1);
    }
    assert_eq!(heard.done.len(), 2);
    assert!(heard.tokens.is_empty());
}

#[test]
fn an_echo_shows_the_prompt() {
    let mut rig = Rig::new(64);
    let ask = rig.ask(Request { echo: true, logprobs: Some(3), ..request(prompt(4, 20), 4) });
    rig.finish();
    let heard = ask.heard.lock().unwrap();
    let (text, tokens) = heard.prompt.as_ref().unwrap();
    let want: String = ask.request.prompt.iter().map(|t| char::from(*t as u8 + 0x1f)).collect();
    assert_eq!((text, tokens.len()), (&want, 20));
    assert!(heard.tokens[&0].iter().all(|t| t.logprob.unwrap() <= 0.0 && t.top.len() == 3));
}

#[test]
fn a_constraint_holds_beside_free_answers() {
    let mut rig = Rig::new(256);
    let constraint = Constraint::JsonSchema(serde_json::json!({
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["name", "age"],
        "additionalProperties": false,
    }));
    let sampling = Sampling { temperature: 1.0, seed: Some(1), ..Sampling::default() };
    let asks: Vec<_> = (0..8)
        .map(|i| {
            let constraint = (i % 2 == 0).then(|| constraint.clone());
            rig.ask(Request { constraint, sampling: sampling.clone(), n: 2, ..request(prompt(i, 20), 200) })
        })
        .collect();
    rig.finish();
    for ask in asks.iter().step_by(2) {
        for index in 0..2 {
            assert_eq!(ask.reason(index), Some(FinishReason::Stop), "{}", ask.text(index));
            let value: serde_json::Value = serde_json::from_str(&ask.text(index)).unwrap();
            assert!(value["name"].is_string() && value["age"].as_u64().unwrap() <= 150);
        }
    }
}

#[test]
fn drafts_change_no_answer() {
    let answers = |speculate: bool, temperature: f32| {
        let mut rig = Rig::with(512, crate::lm::core::Bounds { speculate, ..super::harness::bounds() }, 2);
        let sampling = Sampling { temperature, seed: Some(3), top_k: 4, ..Sampling::default() };
        let mut ids = Vec::new();
        for seed in 0..4 {
            // Alone, where drafts pay.
            let question = Request {
                sampling: sampling.clone(),
                ignore_eos: true,
                logprobs: Some(1),
                stop: vec!["~~~~".into()],
                ..request(prompt(seed, 300), 200)
            };
            let ask = rig.ask(question);
            rig.finish();
            ids.push((ask.ids(0), ask.text(0), ask.reason(0)));
        }
        (ids, rig.core.metrics.accepted_tokens, rig.strings.batches.lock().unwrap().len())
    };
    for temperature in [0.0, 0.3] {
        let (plain, none, many) = answers(false, temperature);
        let (drafted, accepted, few) = answers(true, temperature);
        assert_eq!(plain, drafted);
        assert_eq!(none, 0);
        assert!(0 < accepted && few < many, "{accepted} accepted, {few} batches instead of {many}");
    }
}

#[test]
fn adapters_have_prefixes_of_their_own() {
    let mut rig = Rig::new(64);
    let tokens = prompt(4, 64);
    for adapter in [None, Some(0), Some(1), None, Some(1)] {
        let ask = rig.ask_with(request(tokens.clone(), 20), adapter);
        rig.finish();
        assert_eq!(ask.ids(0), expected(&tokens, 20, adapter, ALL), "{adapter:?}");
    }
    rig.core.retired.push(1);
    rig.finish();
    let ask = rig.ask_with(request(tokens.clone(), 20), Some(1));
    rig.finish();
    assert_eq!(ask.usage(0).cached_tokens, 0, "an adapter's number may be given again");
}

#[test]
fn a_draft_model_changes_no_answer() {
    use super::fake::{FakeClock, FakeDecoder};
    use crate::lm::draft::DraftModel;
    let run = |draft: Option<usize>| {
        let bounds = crate::lm::core::Bounds { speculate: true, ..super::harness::bounds() };
        let mut rig = Rig::with(512, bounds, usize::MAX);
        // The draft model is right as long as its memory of the history is; its pages are few.
        rig.core.draft = draft.map(|memory| {
            let mut decoder = FakeDecoder::new(40, 4096, FakeClock::new());
            decoder.memory = memory;
            DraftModel::new(Box::new(decoder), super::fake::VOCAB).unwrap()
        });
        let mut ids = Vec::new();
        for seed in 0..4 {
            let sampling = Sampling { temperature: 0.1 * seed as f32, seed: Some(3), ..Sampling::default() };
            let asks: Vec<_> = (0..2)
                .map(|i| {
                    let question = Request {
                        sampling: sampling.clone(),
                        ignore_eos: true,
                        ..request(prompt(seed * 2 + i, 150), 60)
                    };
                    rig.ask(question)
                })
                .collect();
            rig.finish();
            ids.extend(asks.iter().map(|ask| ask.ids(0)));
        }
        let steps = rig.strings.batches.lock().unwrap().len();
        (ids, rig.core.metrics.accepted_tokens, steps)
    };
    let (plain, _, many) = run(None);
    let (right, accepted, few) = run(Some(usize::MAX));
    assert_eq!(plain, right);
    assert!(100 < accepted && few < many * 3 / 4, "{accepted} accepted, {few} steps instead of {many}");
    let (wrong, _, _) = run(Some(3));
    assert_eq!(plain, wrong);
}

#[test]
fn a_draft_model_that_fails_is_given_up() {
    use super::fake::{FakeClock, FakeDecoder, Fault};
    use crate::lm::draft::DraftModel;
    let bounds = crate::lm::core::Bounds { speculate: true, ..super::harness::bounds() };
    let mut rig = Rig::with(64, bounds, usize::MAX);
    let decoder = FakeDecoder::new(40, 4096, FakeClock::new());
    *decoder.strings.fault.lock().unwrap() = Some((2, Fault::Panic));
    rig.core.draft = Some(DraftModel::new(Box::new(decoder), super::fake::VOCAB).unwrap());
    let ask = rig.ask(request(prompt(1, 30), 40));
    rig.finish();
    assert_eq!(ask.ids(0), expected(&ask.request.prompt, 40, None, ALL));
    assert!(rig.core.draft.is_none());
    let other = FakeDecoder::new(40, 4096, FakeClock::new());
    assert!(DraftModel::new(Box::new(other), 50_000).is_err());
}
