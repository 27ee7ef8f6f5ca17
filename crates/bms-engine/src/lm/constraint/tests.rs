use serde_json::json;

use super::*;
use crate::lm::random::uniform;
use crate::lm::tests::fake::{END, FakeVocabulary};

fn forms() -> Forms {
    Forms::new(Arc::new(FakeVocabulary::new())).unwrap()
}

/// A text of the form, chosen at random among what may follow.
fn write(forms: &Forms, constraint: &Constraint, seed: u64) -> String {
    let vocabulary = FakeVocabulary::new();
    let mut form = forms.compile(constraint).unwrap();
    let mut text = Vec::new();
    for place in 0..2000 {
        if form.is_complete() {
            return String::from_utf8(text).unwrap();
        }
        let allowed = form.allowed().unwrap().to_list();
        assert!(!allowed.is_empty());
        // The end where it may be: texts stay short.
        let token = match allowed.contains(&END) {
            true => END,
            false => allowed[(uniform(seed, 0, place) * allowed.len() as f64) as usize],
        };
        if token == END {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(vocabulary.bytes(token));
        form.consume(token).unwrap();
    }
    panic!("no end: {}", String::from_utf8_lossy(&text));
}

#[test]
fn texts_have_their_form() {
    let forms = forms();
    let schema = json!({
        "type": "object",
        "properties": {"kind": {"enum": ["a", "b"]}, "sizes": {"type": "array", "items": {"type": "integer"}, "maxItems": 3}},
        "required": ["kind", "sizes"], "additionalProperties": false,
    });
    for seed in 0..20 {
        let value: serde_json::Value =
            serde_json::from_str(&write(&forms, &Constraint::JsonSchema(schema.clone()), seed)).unwrap();
        assert!(["a", "b"].contains(&value["kind"].as_str().unwrap()));
        assert!(value["sizes"].as_array().unwrap().len() <= 3);
        let date = write(&forms, &Constraint::Regex("[0-9]{4}-[0-9]{2}".into()), seed);
        assert_eq!((date.len(), &date[4..5]), (7, "-"));
        let choices = vec!["yes".to_owned(), "no, (not) [really]".to_owned(), "a|b".to_owned()];
        assert!(choices.contains(&write(&forms, &Constraint::Choice(choices.clone()), seed)));
        let call = r#"start: "<call>" body "</call>"
body: %json {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"], "additionalProperties": false}"#;
        let text = write(&forms, &Constraint::Lark(call.into()), seed);
        let inner = text.strip_prefix("<call>").and_then(|t| t.strip_suffix("</call>")).unwrap();
        assert!(serde_json::from_str::<serde_json::Value>(inner).unwrap()["x"].is_boolean());
    }
    let union = json!({"oneOf": [{"type": "boolean"}, {"type": "null"}]});
    assert!(["true", "false", "null"].contains(&write(&forms, &Constraint::JsonSchema(union), 1).trim()));
    let object = write(&forms, &Constraint::JsonObject, 1);
    assert!(serde_json::from_str::<serde_json::Value>(&object).unwrap().is_object(), "{object}");
}

#[test]
fn what_must_follow_is_known() {
    let forms = forms();
    let mut form = forms.compile(&Constraint::Regex("abc[0-9]".into())).unwrap();
    assert_eq!(form.forced(), FakeVocabulary::new().encode("abc"));
    let mut fork = form.fork();
    for token in fork.forced() {
        fork.consume(token).unwrap();
    }
    assert_eq!(fork.allowed().unwrap().num_set(), 10);
    assert_eq!(form.allowed().unwrap().to_list(), FakeVocabulary::new().encode("a"));
}

#[test]
fn bad_constraints_are_refused_with_a_reason() {
    let forms = forms();
    let cases = [
        (Constraint::Regex("(".into()), Code::InvalidRequest, "regular expression"),
        (Constraint::Lark("start: nothing".into()), Code::InvalidRequest, "grammar"),
        (Constraint::Lark(String::new()), Code::InvalidRequest, "grammar"),
        (Constraint::JsonSchema(json!({"type": "nonsense"})), Code::InvalidRequest, "JSON schema"),
        (
            Constraint::JsonSchema(json!({"$ref": "https://example.com/x"})),
            Code::InvalidRequest,
            "JSON schema",
        ),
        (Constraint::JsonSchema(json!(7)), Code::InvalidRequest, "JSON schema"),
        (Constraint::Choice(vec![]), Code::InvalidRequest, "a choice"),
        (Constraint::Choice(vec![String::new()]), Code::InvalidRequest, "a choice"),
        (Constraint::Regex("a".repeat(limits::CONSTRAINT_BYTES_MAX + 1)), Code::TooLarge, "bytes"),
        (Constraint::Regex("a?".repeat(limits::EXPRESSION_WEIGHT_MAX as usize)), Code::TooLarge, "parts"),
    ];
    for (constraint, code, part) in cases {
        let Err(error) = forms.compile(&constraint) else { panic!("{part} passed: {constraint:?}") };
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(part), "{error}");
        assert!(error.message().len() < 700, "{error}");
    }
}

#[test]
fn a_grammar_that_explodes_is_bounded() {
    let forms = forms();
    let begin = std::time::Instant::now();
    for expression in
        ["(((a{1,999}){1,999}){1,999}){1,999}", "(a|aa|aaa|b|bb)*(a*a*a*a*a*b){200,999}[^z]{5000,9000}"]
    {
        // Refused, or cheap enough; never long.
        let _ = forms.compile(&Constraint::Regex(expression.into()));
    }
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn compiled_grammars_are_kept() {
    let forms = forms();
    for round in 0..3 {
        for i in 0..KEPT / 2 {
            forms.compile(&Constraint::Regex(format!("x{i}[a-z]"))).unwrap();
        }
        assert_eq!(forms.kept.lock().unwrap().len(), KEPT / 2, "{round}");
    }
    for i in 0..2 * KEPT {
        forms.compile(&Constraint::Regex(format!("y{i}"))).unwrap();
    }
    assert_eq!(forms.kept.lock().unwrap().len(), KEPT);
}

/// So long that a thread's usual stack would overflow, which ends the process.
#[test]
fn references_are_followed_however_many_there_are() {
    let forms = forms();
    let count = 5000;
    let rules: String = (0..count).map(|rule| format!("r{rule}: \"a\" r{}\n", rule + 1)).collect();
    let grammar = format!("start: r0\n{rules}r{count}: \"z\"\n");
    assert!(grammar.len() <= limits::CONSTRAINT_BYTES_MAX);
    // Whether it is taken or refused as too complex is the compiler's affair.
    drop(forms.compile(&Constraint::Lark(grammar)));
    let mut definitions = serde_json::Map::new();
    for definition in 0..count {
        let next = format!("#/$defs/d{}", definition + 1);
        definitions.insert(format!("d{definition}"), json!({ "$ref": next }));
    }
    definitions.insert(format!("d{count}"), json!({ "type": "integer" }));
    let schema = json!({ "$ref": "#/$defs/d0", "$defs": definitions });
    drop(forms.compile(&Constraint::JsonSchema(schema)));
}
