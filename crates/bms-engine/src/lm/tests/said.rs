//! Answers that are interrupted anywhere and go on.

use std::sync::{Arc, Mutex};

use super::harness::{Rig, prompt, request};
use crate::lm::{Constraint, Event, Request, Said, SaidToken, Sampling};

/// Everything one request heard, in order.
fn events(rig: &mut Rig, request: &Request) -> Vec<Event> {
    let heard: Arc<Mutex<Vec<Event>>> = Arc::default();
    let sink = heard.clone();
    let _ticket = rig.listen(request, move |event| {
        sink.lock().unwrap().push(event);
        true
    });
    rig.finish();
    std::mem::take(&mut *heard.lock().unwrap())
}

fn index(event: &Event) -> Option<usize> {
    match event {
        Event::Tokens { index, .. } | Event::Done { index, .. } => Some(*index),
        Event::Prompt { .. } | Event::Failed(_) => None,
    }
}

/// What these events said of each answer.
fn said(events: &[Event], n: usize) -> Vec<Said> {
    let mut said = vec![Said::new(); n];
    for event in events {
        if let Event::Tokens { index, tokens, .. } = event {
            let token =
                |t: &crate::lm::TokenOut| SaidToken { id: t.id, logprob: t.logprob, top: t.top.clone() };
            said[*index].push(tokens.iter().map(token).collect());
        }
    }
    said
}

/// The events of one answer as text, without what a fresh cache may tell otherwise.
fn of_answer(events: &[Event], answer: usize) -> Vec<String> {
    let of = events.iter().filter(|event| index(event) == Some(answer));
    of.map(|event| match event {
        Event::Done { reason, usage, .. } => {
            format!("{reason:?} {} {}", usage.prompt_tokens, usage.completion_tokens)
        }
        other => format!("{other:?}"),
    })
    .collect()
}

/// Interrupts the request after every so many events, and compares.
fn check(request: &Request) {
    let whole = events(&mut Rig::new(256), request);
    assert!(8 < whole.len(), "{whole:?}");
    for cut in 0..=whole.len() {
        let again = Request { said: said(&whole[..cut], request.n), ..request.clone() };
        let again = events(&mut Rig::new(256), &again);
        for answer in 0..request.n {
            assert_eq!(of_answer(&again, answer), of_answer(&whole, answer), "after {cut} events");
        }
    }
}

fn drawn() -> Sampling {
    Sampling { temperature: 1.0, seed: Some(11), ..Sampling::default() }
}

#[test]
fn greedy_answers_and_drawn_ones_go_on_as_if_nothing_had_been() {
    check(&Request { ignore_eos: true, ..request(prompt(3, 50), 40) });
    check(&Request { ignore_eos: true, sampling: drawn(), logprobs: Some(2), ..request(prompt(3, 20), 40) });
    check(&Request { sampling: drawn(), ..request(prompt(5, 20), 60) });
}

#[test]
fn penalties_count_what_was_said() {
    let sampling =
        Sampling { repetition_penalty: 1.3, frequency_penalty: 0.5, presence_penalty: 0.5, ..drawn() };
    check(&Request { ignore_eos: true, sampling, ..request(prompt(3, 20), 30) });
}

#[test]
fn each_of_several_answers_goes_on() {
    check(&Request { n: 3, ignore_eos: true, sampling: drawn(), ..request(prompt(3, 40), 12) });
    // Some have ended and others have not.
    check(&Request { n: 4, sampling: drawn(), ..request(prompt(9, 20), 30) });
}

#[test]
fn a_stop_string_is_found_across_the_interruption() {
    let plain = Request { ignore_eos: true, ..request(prompt(8, 20), 40) };
    let events = events(&mut Rig::new(64), &plain);
    let text = events.iter().filter_map(|event| match event {
        Event::Tokens { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let text: String = text.collect();
    check(&Request { stop: vec![text[14..18].to_owned(), "\u{1}".into()], ..plain });
}

#[test]
fn a_constraint_holds_on() {
    let constraint = Some(Constraint::Regex("[a-z]{4}-[0-9]{12}-(yes|no)".into()));
    check(&Request { constraint, sampling: drawn(), ..request(prompt(2, 20), 60) });
}

#[test]
fn what_cannot_have_been_said_is_refused() {
    let token = |id| SaidToken { id, logprob: None, top: Vec::new() };
    let good = Request { sampling: drawn(), ..request(prompt(3, 20), 4) };
    let with = |said: Vec<Said>| Request { said, ..good.clone() };
    let refused = |request: Request| request.check(super::fake::VOCAB, 4096).is_err();
    assert!(!refused(with(vec![vec![vec![token(5)], vec![], vec![token(6), token(7)]]])));
    assert!(refused(with(vec![Said::new(), Said::new()])), "two answers where one was asked for");
    assert!(refused(with(vec![vec![vec![token(5); 5]]])), "more than may be said");
    assert!(refused(with(vec![vec![vec![token(u32::MAX)]]])), "no token of the model");
    let seedless = Sampling { seed: None, ..drawn() };
    assert!(refused(Request { sampling: seedless, ..with(vec![Said::new()]) }), "numbers nobody knows");
    assert!(refused(Request { echo: true, ..with(vec![Said::new()]) }));
}
