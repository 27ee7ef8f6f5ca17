use super::*;

const CHAT: &str = "/v1/chat/completions";

#[track_caller]
fn equal(path: &str, one: &str, other: &str, expected: bool) {
    let (one, other) = (Question::of(path, one.as_bytes()), Question::of(path, other.as_bytes()));
    assert!(one.is_some() && other.is_some());
    assert_eq!(one == other, expected, "{one:?} {other:?}");
}

#[test]
fn what_leaves_something_to_chance_is_not_kept() {
    for (path, body, expected) in [
        (CHAT, r#"{"temperature":0}"#, true),
        (CHAT, r#"{"temperature": 0.0 }"#, true),
        (CHAT, r#"{"temperature":1,"top_k":1}"#, true),
        (CHAT, r#"{"temperature":0.7,"seed":7}"#, true),
        ("/v1/completions", r#"{"seed":-7}"#, true),
        ("/v1/messages", r#"{"temperature":0}"#, true),
        ("/v1/responses", r#"{"temperature":0,"store":false,"previous_response_id":null}"#, true),
        ("/v1/embeddings", "{}", true),
        (CHAT, "{}", false),
        (CHAT, r#"{"temperature":0.1}"#, false),
        (CHAT, r#"{"temperature":"0"}"#, false),
        (CHAT, r#"{"temperature":null,"seed":null}"#, false),
        (CHAT, r#"{"top_k":10}"#, false),
        // Which of them counts is for whoever reads it to say.
        (CHAT, r#"{"temperature":0,"temperature":1}"#, false),
        (CHAT, r#"{"temperature":0,"\u0074emperature":1}"#, false),
        (CHAT, r#"{"temperature":0,"store":true}"#, false),
        ("/v1/responses", r#"{"temperature":0,"previous_response_id":"resp_1"}"#, false),
        ("/v1/messages/count_tokens", r#"{"temperature":0}"#, false),
        ("/v1/load_lora_adapter", r#"{"temperature":0}"#, false),
        (CHAT, "[]", false),
        (CHAT, r#"{"temperature":0"#, false),
    ] {
        assert_eq!(Question::of(path, body.as_bytes()).is_some(), expected, "{path} {body}");
    }
}

#[test]
fn the_order_of_fields_and_whom_it_is_for_make_no_difference_and_all_else_does() {
    let plain = r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}]}"#;
    for same in [
        r#"{"temperature":0, "messages":[{"role":"user","content":"a"}],"model":"m"}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"user":"u","stream":false}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"metadata":{"a":"b"},"priority":3}"#,
    ] {
        equal(CHAT, plain, same, true);
    }
    for other in [
        r#"{"model":"m@1","temperature":0,"messages":[{"role":"user","content":"a"}]}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"b"}]}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"stream":true}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"max_tokens":9}"#,
        r#"{"model":"m","temperature":0,"messages":[{"role":"user","content":"a"}],"cache_salt":"s"}"#,
    ] {
        equal(CHAT, plain, other, false);
    }
    // What is written further in is in the prompt as it is written: the properties of a schema are filled in their order.
    equal(CHAT, r#"{"seed":1,"tools":[{"a":1,"b":2}]}"#, r#"{"seed":1,"tools":[{"b":2,"a":1}]}"#, false);
    // These answers repeat what the caller noted.
    let (one, other) = (r#"{"temperature":0,"metadata":{"a":"b"}}"#, r#"{"temperature":0,"metadata":{}}"#);
    equal("/v1/responses", one, other, false);
    equal(CHAT, one, other, true);
}
