use serde_json::{Value, json};

use super::{Ended, Renewal};

#[test]
fn a_document_gets_an_identifier_and_a_time_of_its_own_and_nothing_else_changes() {
    let said = "\"chatcmpl-0a\" \"created\":17";
    let document = json!({
        "id": "chatcmpl-0a", "object": "chat.completion", "created": 17,
        "choices": [{ "message": { "content": said, "tool_calls": [{ "id": "call_1" }] } }],
        "usage": { "created": 170 },
    });
    for text in [document.to_string(), serde_json::to_string_pretty(&document).unwrap()] {
        let first = Renewal::of_document(text.as_bytes()).apply(text.as_bytes());
        let second = Renewal::of_document(text.as_bytes()).apply(text.as_bytes());
        assert_ne!(first, second);
        let mut renewed: Value = serde_json::from_slice(&first).unwrap();
        assert!(renewed["id"].as_str().unwrap().starts_with("chatcmpl-"), "{renewed}");
        assert_ne!(renewed["id"], document["id"]);
        assert!(1_700_000_000 < renewed["created"].as_u64().unwrap(), "{renewed}");
        (renewed["id"], renewed["created"]) = (document["id"].clone(), document["created"].clone());
        assert_eq!(renewed, document);
    }
    let vectors = br#"{"object":"list","data":[{"embedding":[1.5]}]}"#;
    assert_eq!(&Renewal::of_document(vectors).apply(vectors)[..], vectors);
}

#[test]
fn all_events_of_a_stream_get_the_same_new_name() {
    let stream = concat!(
        ": keep-alive\n\n",
        "data: {\"id\":\"cmpl-1\",\"created\":17,\"x\":\"a\"}\n\n",
        "data: {\"id\":\"cmpl-1\",\"created\":17,\"x\":\"b\"}\n\n",
        "data: [DONE]\n\n",
    );
    let renewed = Renewal::of_stream(stream.as_bytes()).unwrap().apply(stream.as_bytes());
    let renewed = str::from_utf8(&renewed).unwrap();
    let ids: Vec<_> = renewed.matches("\"cmpl-").collect();
    let id = renewed.split('"').find(|word| word.starts_with("cmpl-")).unwrap();
    assert_eq!((ids.len(), renewed.matches(id).count(), renewed.contains("cmpl-1\"")), (2, 2, false));
    assert!(!renewed.contains("\"created\":17,"), "{renewed}");
    assert!(renewed.ends_with("data: [DONE]\n\n") && renewed.starts_with(": keep-alive"), "{renewed}");

    // Where the newer protocols have them.
    let stream = concat!(
        "event: response.created\n",
        "data: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_7\",\"created_at\":17}}\n\n",
    );
    let renewed = Renewal::of_stream(stream.as_bytes()).unwrap().apply(stream.as_bytes());
    let renewed = str::from_utf8(&renewed).unwrap();
    assert!(renewed.contains("\"id\":\"resp_") && !renewed.contains("resp_7\""), "{renewed}");
    assert!(!renewed.contains("\"created_at\":17}"), "{renewed}");
    let stream =
        "event: message_start\ndata: {\"message\":{\"id\":\"msg_7\"},\"type\":\"message_start\"}\n\n";
    let renewed = Renewal::of_stream(stream.as_bytes()).unwrap().apply(stream.as_bytes());
    assert!(!str::from_utf8(&renewed).unwrap().contains("msg_7\""));
    assert!(Renewal::of_stream(b": keep-alive\n\ndata: [DONE]\n\n").is_none());
}

#[track_caller]
fn check(ended: Ended, stream: &str, expected: bool) {
    assert_eq!(ended.is_good(stream.as_bytes()), expected, "{stream}");
}

#[test]
fn only_a_stream_that_came_to_its_end_is_whole() {
    check(Ended::Done, "data: {\"x\":1}\n\ndata: [DONE]\n\n", true);
    check(Ended::Done, "data: [DONE]", true);
    check(Ended::Done, "data: {\"x\":1}\n\n", false);
    check(Ended::Done, "", false);
    check(Ended::Done, "data: {\"x\":\"data: [DONE]\"}\n\n", false);
    check(Ended::Done, "data: {\"x\":\"data: {\\\"error\\\"\"}\n\ndata: [DONE]\n\n", true);
    check(Ended::Done, "data: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n", false);
    check(Ended::Done, "data: {\"x\":1}\n\nerror: {\"message\":\"x\"}\n\ndata: [DONE]\n\n", false);
    check(Ended::MessageStop, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", true);
    check(Ended::MessageStop, "event: ping\ndata: {}\n\n", false);
    check(Ended::MessageStop, "data: [DONE]\n\n", false);
    check(Ended::MessageStop, "event: error\ndata: {}\n\nevent: message_stop\ndata: {}\n\n", false);
    check(Ended::Response, "event: response.completed\ndata: {}\n\n", true);
    check(Ended::Response, "event: response.incomplete\ndata: {}\n\n", true);
    check(Ended::Response, "event: response.failed\ndata: {}\n\n", false);
}
