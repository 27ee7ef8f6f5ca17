use bms_wire::Code;

use super::*;

fn check(change: impl FnOnce(&mut Request)) -> Result<()> {
    let mut request = Request { max_tokens: Some(10), ..Request::new(vec![1, 2, 3]) };
    change(&mut request);
    request.check(100, 64)
}

#[test]
fn an_ordinary_request_passes() {
    check(|_| ()).unwrap();
    check(|r| r.max_tokens = None).unwrap();
    check(|r| r.sampling = Sampling { temperature: 0.7, top_p: 0.9, top_k: 40, ..Sampling::default() })
        .unwrap();
}

#[test]
fn the_context_may_be_filled_and_not_exceeded() {
    check(|r| r.max_tokens = Some(61)).unwrap();
    let error = check(|r| r.max_tokens = Some(62)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    assert_eq!(
        error.message(),
        "this model's context is 64 tokens; 65 were asked for (3 in the prompt, 62 for the answer)"
    );
    check(|r| (r.prompt, r.max_tokens) = (vec![1; 63], None)).unwrap();
    check(|r| (r.prompt, r.max_tokens) = (vec![1; 64], None)).unwrap_err();
    check(|r| r.max_tokens = Some(usize::MAX)).unwrap_err();
}

#[test]
fn absurd_values_are_refused_by_name() {
    type Change = fn(&mut Request);
    let cases: &[(&str, Change)] = &[
        ("no tokens", |r| r.prompt.clear()),
        ("no token 100", |r| r.prompt[1] = 100),
        ("no token 4294967295", |r| r.stop_tokens = vec![u32::MAX]),
        ("n is 0", |r| r.n = 0),
        ("n is 65", |r| r.n = 65),
        ("temperature", |r| r.sampling.temperature = f32::NAN),
        ("temperature", |r| r.sampling.temperature = -0.1),
        ("temperature", |r| r.sampling.temperature = f32::INFINITY),
        ("top_p is 0", |r| r.sampling.top_p = 0.0),
        ("top_p", |r| r.sampling.top_p = 1.01),
        ("min_p", |r| r.sampling.min_p = -1.0),
        ("repetition_penalty is 0", |r| r.sampling.repetition_penalty = 0.0),
        ("frequency_penalty", |r| r.sampling.frequency_penalty = 3.0),
        ("presence_penalty", |r| r.sampling.presence_penalty = f32::NEG_INFINITY),
        ("a logit bias", |r| r.sampling.logit_bias = vec![(1, f32::NAN)]),
        ("names token 100", |r| r.sampling.logit_bias = vec![(100, 1.0)]),
        ("stop string's length is 0", |r| r.stop = vec![String::new()]),
        ("stop strings is 17", |r| r.stop = vec!["a".to_owned(); 17]),
        ("logprobs is 21", |r| r.logprobs = Some(21)),
        ("priority is 101", |r| r.priority = 101),
        ("min_tokens", |r| r.min_tokens = 11),
        ("max_tokens is 0", |r| r.max_tokens = Some(0)),
    ];
    for (part, change) in cases {
        let error = check(change).expect_err(part);
        assert_eq!(error.code(), Code::InvalidInput, "{part}");
        assert!(error.message().contains(part), "{part}: {error}");
    }
}
