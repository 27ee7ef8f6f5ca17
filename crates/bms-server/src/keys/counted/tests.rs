use super::Tokens;

/// What is read off an answer that comes in pieces of every size.
#[track_caller]
fn expect(answer: &str, estimated: u64, want: u64) {
    for size in 1..=answer.len() {
        let mut tokens = Tokens::default();
        answer.as_bytes().chunks(size).for_each(|piece| tokens.look(piece));
        assert_eq!(tokens.total(0, estimated), want, "in pieces of {size}: {answer}");
    }
}

#[test]
fn what_the_engine_says_counts() {
    expect(r#"{"id":"x","usage":{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12}}"#, 99, 12);
    expect(r#"{"usage":{"prompt_tokens":7,"total_tokens":7},"data":[]}"#, 0, 7);
    expect(r#"{"usage":null,"a":1}"#, 9, 9);
    let told = "data: {\"usage\":null,\"c\":1}\n\ndata: {\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
    expect(told, 50, 5);
    let anthropic = "event: message_start\ndata: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\n\
                     event: message_delta\ndata: {\"delta\":{},\"usage\":{\"output_tokens\":4}}\n\n";
    expect(anthropic, 0, 13);
    let cached = r#"{"usage":{"cache_read_input_tokens":32,"cache_creation_input_tokens":null,"input_tokens":1,"output_tokens":16}}"#;
    expect(cached, 0, 49);
}

#[test]
fn text_of_an_answer_says_nothing() {
    let text = r#"{"content":"\"usage\":{\"prompt_tokens\":100000}","n":"usage"}"#;
    expect(text, 3, 3);
}

#[test]
fn a_stream_that_does_not_say_counts_by_its_events() {
    let mut tokens = Tokens::default();
    for _ in 0..20 {
        tokens.look(b"data: {\"choices\":[]}\n\n");
    }
    tokens.look(b"data: [DONE]\n\n");
    assert_eq!(tokens.total(5, 500), 25);
}

#[test]
fn what_never_ends_is_not_kept() {
    let mut tokens = Tokens::default();
    tokens.look(b"{\"usage\":{");
    for _ in 0..100 {
        tokens.look(&[b' '; 100]);
    }
    assert!(tokens.rest.len() < 4096);
}
