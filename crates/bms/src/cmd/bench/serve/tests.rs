use std::time::Duration;

use prost::Message;
use serde_json::json;

use super::exchange::of_grpc;
use super::stream::Events;
use super::tally::{Outcome, Streamed, Tally, Times};
use super::{address, picture, tensors};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn only_plain_addresses_are_taken() {
    for good in ["http://127.0.0.1:8080", "http://localhost:1/", "http://[::1]:80", "https://a"] {
        assert!(address(good).is_ok(), "{good}");
    }
    for bad in ["https://a/b", "127.0.0.1:80", "http://", "http://a/b", "ftp://a", "http://a b"] {
        assert!(address(bad).is_err(), "{bad}");
    }
}

#[test]
fn tokens_are_timed_however_the_bytes_are_cut() {
    let text = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n\
                data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\r\n\r\n\
                : a comment\n\
                data: {\"choices\":[{\"text\":\"b\"}]}\n\n\
                data: {\"choices\":[],\"usage\":{\"completion_tokens\":7}}\n\n\
                data: [DONE]\n\n";
    for cut in 0..text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        let mut events = Events::default();
        events.take(head, ms(1));
        events.take(tail, ms(5));
        let streamed = events.end().unwrap();
        assert_eq!((streamed.tokens, streamed.gaps.len()), (7, 1));
        assert!(streamed.first == Some(ms(1)) || streamed.first == Some(ms(5)));
    }
}

#[test]
fn what_breaks_off_or_tells_of_an_error_is_no_answer() {
    let cut = "data: {\"choices\":[{\"text\":\"b\"}]}\n";
    let error = "data: {\"error\":{\"message\":\"the slot is gone\"}}\n\ndata: [DONE]\n";
    for (text, why) in
        [(cut, "broke off"), (error, "slot is gone"), ("data: {\n", "not JSON"), ("", "broke off")]
    {
        let mut events = Events::default();
        events.take(text.as_bytes(), ms(1));
        let told = events.end().unwrap_err();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn percentiles_are_those_of_the_times() {
    let mut times = Times::new().unwrap();
    (1..=1000).for_each(|n| times.add(ms(n)));
    for (percent, wanted) in [(50.0, 500.0), (99.0, 990.0), (99.9, 999.0)] {
        let found = times.percentile(percent);
        assert!((found - wanted).abs() <= wanted * 2e-3, "{found} for {percent}");
    }
    assert_eq!(times.classes().map(|(_, count)| count).sum::<u64>(), 1000);
}

#[test]
fn outcomes_are_counted_and_drawn() {
    let mut tally = Tally::new().unwrap();
    let streamed = Streamed { first: Some(ms(3)), gaps: vec![ms(1), ms(2)], tokens: 3 };
    tally.note(Outcome::Answered(streamed), ms(10), ms(9), ms(2), true);
    tally.note(Outcome::Answered(Streamed::default()), ms(1700), ms(90), ms(0), false);
    tally.note(Outcome::Refused(429), ms(2100), ms(6), ms(2), true);
    tally.note(Outcome::Failed("status 500".to_owned()), ms(2200), ms(6), ms(2), false);
    assert_eq!((tally.requests(), tally.good, tally.tokens, tally.failures()), (4, 1, 3, 1));
    assert_eq!((tally.first_token.len(), tally.gap.len()), (1, 2));
    // From when it was due.
    assert!((tally.first_token.max() - 5.0).abs() < 0.1);
    // What a refusal takes is the server's time, not that for a connection.
    assert!((tally.refusal.max() - 4.0).abs() < 0.1);
    assert_eq!(tally.course.iter().map(|second| second.answered).collect::<Vec<_>>(), [1, 1, 0]);
    assert!(picture::draw(&tally).unwrap().contains("</svg>"));
    assert!(picture::draw(&Tally::new().unwrap()).unwrap().contains("no answers"));
}

#[test]
fn a_request_is_the_same_in_all_forms() {
    let request = json!({"inputs": [
        {"name": "a", "shape": [2, 1], "datatype": "FP32", "data": [[1.0], [2.5]]},
        {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["ab"]},
    ]});
    let bytes = [&1f32.to_le_bytes()[..], &2.5f32.to_le_bytes(), &2u32.to_le_bytes(), b"ab"].concat();
    let binary = tensors::binary(&request).unwrap();
    let head = binary.head_bytes.unwrap();
    assert_eq!(&binary.body[head..], bytes);
    let (read, places) =
        bms_wire::oip::binary::read_request::<serde_json::Value>(&binary.body, Some(head)).unwrap();
    assert_eq!((read.inputs.len(), places), (2, vec![Some(head..head + 8), Some(head + 8..head + 14)]));
    let grpc = tensors::grpc("m", &request).unwrap();
    assert_eq!(grpc.body[..5], [&[0][..], &(grpc.body.len() as u32 - 5).to_be_bytes()].concat());
    let message = tensors::InferMessage::decode(&grpc.body[5..]).unwrap();
    assert_eq!((message.model_name.as_str(), message.inputs.len()), ("m", 2));
    assert_eq!((&message.inputs[0].shape[..], message.inputs[1].datatype.as_str()), (&[2, 1][..], "BYTES"));
    assert_eq!(message.raw_input_contents.concat(), bytes);
    for wrong in [
        json!({}),
        json!({"inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": ["x"]}]}),
        json!({"inputs": [{"name": "a", "shape": [1], "datatype": "INT8", "data": [300]}]}),
        json!({"inputs": [{"name": "a", "shape": [1], "datatype": "FP16", "data": [1.0]}]}),
        json!({"inputs": [{"name": "a", "datatype": "FP32", "data": [1.0]}]}),
    ] {
        assert!(tensors::grpc("m", &wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_status_of_a_call_says_what_became_of_it() {
    assert_eq!(of_grpc(Some("0")), Outcome::Answered(Streamed::default()));
    assert_eq!(of_grpc(Some("8")), Outcome::Refused(429));
    assert_eq!(of_grpc(Some("14")), Outcome::Refused(503));
    assert!(matches!(of_grpc(Some("13")), Outcome::Failed(_)) && matches!(of_grpc(None), Outcome::Failed(_)));
}

#[test]
fn what_was_sent_again_is_counted() {
    let mut tally = Tally::new().unwrap();
    tally.note_sent(&Outcome::Answered(Streamed::default()), 1);
    tally.note_sent(&Outcome::Answered(Streamed::default()), 3);
    tally.note_sent(&Outcome::Refused(503), 5);
    assert_eq!((tally.moved, tally.sent_again, tally.sent_most), (1, 6, 5));
}
