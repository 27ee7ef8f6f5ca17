use super::*;

fn token(id: u32, logprob: Option<f32>, top: &[(u32, f32)]) -> TokenOut {
    TokenOut { id, bytes: vec![b'x'], logprob, top: top.to_vec() }
}

#[test]
fn what_was_said_comes_back_answer_by_answer() {
    let begin = Beginning { id: "chatcmpl-1".into(), created: 7, seed: u64::MAX };
    let mut continuation = Continuation::new(begin);
    let tops = [(1, -0.1), (2, f32::NEG_INFINITY)];
    continuation.heard.push(Heard::new(1, &[token(5, Some(-0.300_000_1), &tops)], true));
    continuation.heard.push(Heard::new(0, &[token(6, None, &[]), token(7, None, &[])], false));
    continuation.heard.push(Heard::new(1, &[], true));
    continuation.heard.push(Heard::new(9, &[], true));
    let (body, length) = continuation.before(b"{}").unwrap();
    let (read, request) = Continuation::split(&body, length).unwrap();
    assert_eq!((&read, &request[..]), (&continuation, &b"{}"[..]));
    assert_eq!(read.events(2), [1, 2]);
    let plain = |id| SaidToken { id, logprob: None, top: Vec::new() };
    let scored = SaidToken { id: 5, logprob: Some(-0.300_000_1), top: tops.to_vec() };
    assert_eq!(read.said(2), [vec![vec![plain(6), plain(7)]], vec![vec![scored], vec![]]]);
}

#[test]
fn a_body_that_is_no_continuation_is_refused() {
    for (body, length) in [("{}", 2), ("{}", 3), ("", 0), ("{\"begin\":{\"id\":\"\"}}", 10)] {
        let refused = Continuation::split(&Bytes::from(body), length).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{body}");
    }
}

#[test]
fn a_mark_is_one_line_among_events() {
    let mark =
        Mark { heard: vec![Heard::new(0, &[token(3, None, &[])], false)], names: 4, ..Mark::default() };
    let mut out = Vec::new();
    mark.write(&mut out).unwrap();
    assert_eq!(
        String::from_utf8(out.clone()).unwrap(),
        ": bms {\"heard\":[{\"i\":0,\"t\":[3]}],\"names\":4}\n\n"
    );
    let inner = &out[MARK.len()..out.len() - 2];
    assert_eq!(serde_json::from_slice::<Mark>(inner).unwrap(), mark);
}
