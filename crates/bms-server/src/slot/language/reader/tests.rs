use super::{Form, Opening, Piece, Reader, Reading};

/// What a text means, read in one go and in pieces of every size: it must be the same.
#[track_caller]
fn read(reading: Reading, text: &str) -> String {
    let whole = told(reading, &[text]);
    for size in 1..6 {
        let characters: Vec<char> = text.chars().collect();
        let pieces: Vec<String> = characters.chunks(size).map(|chunk| chunk.iter().collect()).collect();
        let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
        assert_eq!(told(reading, &pieces), whole, "in pieces of {size}: {text}");
    }
    whole
}

fn told(reading: Reading, texts: &[&str]) -> String {
    let mut reader = Reader::new(reading, vec!["f".into(), "g".into()]);
    let mut pieces = Vec::new();
    for text in texts {
        reader.push(text, &mut pieces);
    }
    reader.finish(&mut pieces);
    let mut out = String::new();
    let mut last = "";
    for piece in pieces {
        let (kind, text) = match piece {
            Piece::Thought(text) => ("thought", text),
            Piece::Text(text) => ("text", text),
            Piece::CallBegins(name) => ("call", name),
            Piece::CallArguments(text) => ("arguments", text),
            Piece::CallEnds => ("end", String::new()),
        };
        if kind != last || kind == "call" {
            out.push_str(&format!("|{kind}:"));
        }
        out.push_str(&text);
        last = kind;
    }
    out
}

fn with(calls: Option<Form>) -> Reading {
    Reading { calls, thinks: false, opening: Opening::None }
}

#[test]
fn text_stays_as_it_is() {
    assert_eq!(read(with(None), "a <tool_call> b <think> \n"), "|text:a <tool_call> b <think> \n");
    assert_eq!(read(with(Some(Form::Hermes)), "a < b\n\nc "), "|text:a < b\n\nc ");
    assert_eq!(read(with(Some(Form::Llama)), "plain"), "|text:plain");
}

#[test]
fn calls_of_hermes() {
    let hermes = with(Some(Form::Hermes));
    assert_eq!(
        read(hermes, "Let me see.\n<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>"),
        "|text:Let me see.|call:f|arguments:{\"a\": 1}|end:"
    );
    assert_eq!(
        read(
            hermes,
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"g\", \"arguments\": {}}</tool_call>"
        ),
        "|call:f|arguments:{}|end:|call:g|arguments:{}|end:"
    );
    assert_eq!(read(hermes, "<tool_call>oops</tool_call>"), "|text:oops</tool_call>");
    assert_eq!(
        read(hermes, "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\""),
        "|call:f|arguments:{\"a\"|end:"
    );
    let whole = "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
    let second = "\n<tool_call>\n{\"name\": \"g";
    // However early a second call breaks off, nothing of it is text.
    for end in 0..=second.len() {
        let called = "|call:f|arguments:{}|end:";
        assert_eq!(read(hermes, &format!("{whole}{}", &second[..end])), called, "{}", &second[..end]);
    }
    assert_eq!(read(hermes, "<tool_call>{\"na"), "");
    assert_eq!(read(hermes, &format!("{whole}\nDone.")), "|call:f|arguments:{}|end:|text:\nDone.");
    assert_eq!(read(hermes, "a <tool"), "|text:a <tool");
    let opened = Reading { opening: Opening::Call, ..hermes };
    assert_eq!(read(opened, "{\"name\": \"f\", \"arguments\": {}}"), "|call:f|arguments:{}|end:");
}

#[test]
fn calls_of_llama_are_calls_of_known_functions_alone() {
    let llama = with(Some(Form::Llama));
    assert_eq!(
        read(llama, "{\"name\": \"f\", \"parameters\": {\"a\": 1}}; {\"name\": \"g\", \"parameters\": {}}"),
        "|call:f|arguments:{\"a\": 1}|end:|call:g|arguments:{}|end:"
    );
    assert_eq!(
        read(llama, "<|python_tag|>{\"name\": \"f\", \"parameters\": {}}"),
        "|call:f|arguments:{}|end:"
    );
    assert_eq!(
        read(llama, "{\"name\": \"h\", \"parameters\": {}}"),
        "|text:{\"name\": \"h\", \"parameters\": {}}"
    );
    assert_eq!(read(llama, "{\"answer\": 42}"), "|text:{\"answer\": 42}");
}

#[test]
fn calls_of_mistral() {
    let mistral = with(Some(Form::Mistral));
    assert_eq!(
        read(
            mistral,
            "[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"g\", \"arguments\": {}}]"
        ),
        "|call:f|arguments:{}|end:|call:g|arguments:{}|end:"
    );
    assert_eq!(read(mistral, "[TOOL_CALLS]f[ARGS]{\"a\": 1}"), "|call:f|arguments:{\"a\": 1}|end:");
    assert_eq!(
        read(mistral, "[TOOL_CALLS]f{\"a\": 1}[TOOL_CALLS]g{}"),
        "|call:f|arguments:{\"a\": 1}|end:|call:g|arguments:{}|end:"
    );
    assert_eq!(
        read(mistral, "[TOOL_CALLS]f[CALL_ID]0aB9cD8eF[ARGS]{\"a\": 1}[TOOL_CALLS]g[CALL_ID]1[ARGS]{}"),
        "|call:f|arguments:{\"a\": 1}|end:|call:g|arguments:{}|end:"
    );
    assert_eq!(read(mistral, "hello [world]"), "|text:hello [world]");
}

#[test]
fn thoughts() {
    let thinks = Reading { calls: Some(Form::Hermes), thinks: true, opening: Opening::None };
    assert_eq!(read(thinks, "<think>\nhm < hm\n</think>\n\nYes."), "|thought:\nhm < hm\n|text:Yes.");
    assert_eq!(read(thinks, "No thought."), "|text:No thought.");
    let opened = Reading { opening: Opening::Thought, ..thinks };
    assert_eq!(
        read(opened, "hm</think><tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>"),
        "|thought:hm|call:f|arguments:{}|end:"
    );
    assert_eq!(read(opened, "hm"), "|thought:hm");
}
