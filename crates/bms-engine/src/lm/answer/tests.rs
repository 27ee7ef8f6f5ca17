use super::*;
use crate::lm::tests::fake::{FakeVocabulary, VOCAB};

fn answer(change: impl FnOnce(&mut Request)) -> Answer {
    let mut request = Request { max_tokens: Some(10), ..Request::new(vec![1]) };
    change(&mut request);
    Answer::new(&request, None, 1, 10, &FakeVocabulary::new())
}

/// Rows whose best tokens are these.
fn rows(best: &[u32]) -> Vec<f32> {
    let row =
        |token: &u32| (0..VOCAB as u32).map(|t| if t == *token { 9.0 } else { 0.0 }).collect::<Vec<_>>();
    best.iter().flat_map(row).collect()
}

fn advance(answer: &mut Answer, best: &[u32], drafts: &[u32]) -> Advance {
    answer.advance(&mut rows(best), VOCAB, drafts, &FakeVocabulary::new(), &mut Scratch::default()).unwrap()
}

fn ids(advance: &Advance) -> Vec<u32> {
    advance.tokens.iter().map(|token| token.id).collect()
}

#[test]
fn drafts_are_taken_as_far_as_they_are_right() {
    for (drafts, want) in [
        (vec![], vec![40]),
        (vec![41, 42], vec![40]),
        (vec![40, 42], vec![40, 41]),
        (vec![40, 41], vec![40, 41, 42]),
    ] {
        let mut answer = answer(|_| ());
        let rows = [40, 41, 42];
        assert_eq!(ids(&advance(&mut answer, &rows[..drafts.len() + 1], &drafts)), want);
        assert_eq!(answer.generated, want.len());
    }
}

#[test]
fn nothing_follows_the_end_within_a_draft() {
    let mut first = answer(|r| r.stop_tokens = vec![41]);
    let step = advance(&mut first, &[40, 41, 42], &[40, 41]);
    assert_eq!((ids(&step), step.end), (vec![40, 41], Some(FinishReason::Stop)));
    let mut second = answer(|_| ());
    second.generated = 8;
    let step = advance(&mut second, &[40, 41, 42], &[40, 41]);
    assert_eq!((ids(&step), step.end), (vec![40, 41], Some(FinishReason::Length)));
    // Characters 40 and 41 are G and H.
    let mut third = answer(|r| r.stop = vec!["GH".into()]);
    let step = advance(&mut third, &[40, 41, 42], &[40, 41]);
    assert_eq!(step.end, Some(FinishReason::StopString("GH".into())));
    assert_eq!(step.text, "");
}

#[test]
fn held_text_comes_at_the_end() {
    let mut answer = answer(|r| r.stop = vec!["GHI".into()]);
    assert_eq!(advance(&mut answer, &[40], &[]).text, "");
    assert_eq!(advance(&mut answer, &[41], &[]).text, "");
    let end = advance(&mut answer, &[0], &[]);
    assert_eq!((end.text.as_str(), end.end), ("GH", Some(FinishReason::Stop)));
}

#[test]
fn control_tokens_are_no_text_but_tokens() {
    let mut answer = answer(|r| r.ignore_eos = true);
    let step = advance(&mut answer, &[0], &[]);
    assert_ne!(ids(&step), [0], "the end token is not chosen");
}
