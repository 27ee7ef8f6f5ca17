use serde_json::{Map, Value, json};

use super::*;

/// Conversations, and what transformers writes of them with real templates.
const EXPECTED: &str = include_str!("../../../tests/data/templates/expected.json");

fn source(name: &str) -> &'static str {
    match name {
        "deepseek-r1" => include_str!("../../../tests/data/templates/deepseek-r1.jinja"),
        "mistral-nemo" => include_str!("../../../tests/data/templates/mistral-nemo.jinja"),
        "phi-3.5" => include_str!("../../../tests/data/templates/phi-3.5.jinja"),
        "qwen2.5" => include_str!("../../../tests/data/templates/qwen2.5.jinja"),
        "qwen3" => include_str!("../../../tests/data/templates/qwen3.jinja"),
        "qwen3-coder" => include_str!("../../../tests/data/templates/qwen3-coder.jinja"),
        "smollm2" => include_str!("../../../tests/data/templates/smollm2.jinja"),
        other => panic!("no template {other}"),
    }
}

#[test]
fn prompts_are_those_of_transformers() {
    let all: Value = serde_json::from_str(EXPECTED).unwrap();
    let cases = all["cases"].as_array().unwrap();
    assert!(60 <= cases.len(), "only {} cases", cases.len());
    for case in cases {
        let (name, conversation) =
            (case["template"].as_str().unwrap(), case["conversation"].as_str().unwrap());
        let given = &all["conversations"][conversation];
        let template = ChatTemplate::new(source(name), "<s>", "</s>").unwrap();
        let prompt = given.get("add_generation_prompt").and_then(Value::as_bool).unwrap_or(true);
        let extra = given.get("kw").and_then(Value::as_object).cloned().unwrap_or_default();
        let found = template.render(&given["messages"], given.get("tools"), prompt, &extra);
        match case["text"].as_str() {
            Some(wanted) => assert_eq!(found.unwrap(), wanted, "{name}, {conversation}"),
            None => assert!(found.is_err(), "{name}, {conversation}: {found:?} despite {}", case["error"]),
        }
    }
}

fn user() -> Value {
    json!([{"role": "user", "content": "hi"}])
}

fn render(source: &str) -> Result<String> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&user(), None, true, &Map::new())
}

#[test]
fn what_a_template_says_is_passed_on() {
    let error = render("{{ raise_exception('roles must alternate') }}").unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    assert!(error.message().ends_with("refuses the conversation: roles must alternate"), "{error}");
    let inside =
        "{% macro m() %}{{ raise_exception('no') }}{% endmacro %}{% for x in [1] %}{{ m() }}{% endfor %}";
    assert!(render(inside).unwrap_err().message().ends_with(": no"));
}

#[test]
fn programs_that_are_none_are_refused_when_loaded() {
    let error = render("{% for x in %}").unwrap_err();
    assert_eq!(error.code(), Code::UnsupportedModel);
    assert!(error.message().contains("line 1"), "{error}");
    let long = " ".repeat(limits::CHAT_TEMPLATE_BYTES_MAX + 1);
    assert_eq!(render(&long).unwrap_err().code(), Code::UnsupportedModel);
}

#[test]
fn hostile_templates_end() {
    for (source, code) in [
        ("{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", Code::TooLarge),
        (
            "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
            Code::TooLarge,
        ),
        ("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}", Code::InvalidInput),
        ("{{ ''.__class__.__mro__ }}", Code::InvalidInput),
        ("{{ cycler.__init__.__globals__.os.popen('id') }}", Code::InvalidInput),
        ("{{ messages | nosuchfilter }}", Code::UnsupportedModel),
    ] {
        let error = render(source).unwrap_err();
        assert!(
            error.code() == code || error.code() == Code::InvalidInput,
            "{source}: {:?} {error}",
            error.code()
        );
    }
    assert!(render("{% include 'default' %}").is_err());
    assert!(render("{% extends '/etc/passwd' %}").is_err());
}

#[test]
fn a_prompt_over_the_limit_is_refused() {
    let template = ChatTemplate::new("{{ messages[0].content }}", "", "").unwrap();
    let long = "a".repeat(limits::CHAT_PROMPT_BYTES_MAX + 1);
    let error = template.render(&json!([{"content": long}]), None, true, &Map::new()).unwrap_err();
    assert_eq!(error.code(), Code::TooLarge);
}

#[test]
fn a_template_for_tools_is_used_with_tools() {
    let mut template = ChatTemplate::new("plain", "", "").unwrap();
    template.set_tools("tools: {{ tools | tojson }}").unwrap();
    let tools = json!([{"b": 1, "a": "ü<"}]);
    assert_eq!(template.render(&user(), None, true, &Map::new()).unwrap(), "plain");
    let found = template.render(&user(), Some(&tools), true, &Map::new()).unwrap();
    // The order of the request, and no escapes.
    assert_eq!(found, r#"tools: [{"b": 1, "a": "ü<"}]"#);
}

#[test]
fn the_fallback_says_that_it_is_one() {
    let template = ChatTemplate::chatml().unwrap();
    assert_eq!(template.origin(), TemplateOrigin::Fallback("chatml"));
    let prompt = template.render(&user(), None, true, &Map::new()).unwrap();
    assert_eq!(prompt, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
    assert_eq!(ChatTemplate::new("", "", "").unwrap().origin(), TemplateOrigin::Model);
}

#[test]
fn values_are_spelled_as_python_spells_them() {
    let show = |expression: &str| render(&format!("{{{{ {expression} }}}}")).unwrap();
    assert_eq!(
        show("[true, none, 'a', \"it's\", 1.0, {'k': 2}]"),
        r#"[True, None, 'a', "it's", 1.0, {'k': 2}]"#
    );
    assert_eq!(show("true"), "True");
    assert_eq!(show("nothing"), "");
    assert_eq!(show("1e20"), "1e+20");
    assert_eq!(show("[1, true] | string"), "[1, True]");
    assert_eq!(show("{'a': 1.5, 'b': [none, true]} | tojson"), r#"{"a": 1.5, "b": [null, true]}"#);
    assert_eq!(show("{'a': [1], 'b': {}} | tojson(indent=2)"), "{\n  \"a\": [\n    1\n  ],\n  \"b\": {}\n}");
    assert_eq!(show("'é\\n\\u0001' | tojson"), "\"é\\n\\u0001\"");
    assert_eq!(show("'é😀' | tojson(ensure_ascii=true)"), r#""\u00e9\ud83d\ude00""#);
    assert_eq!(show("{'b': 1, 'a': 2} | tojson(sort_keys=true, separators=[',', ':'])"), r#"{"a":2,"b":1}"#);
    assert_eq!(show("none is iterable"), "False");
    assert_eq!(show("'a b'.split(' ')[-1].upper()"), "B");
}

#[test]
fn blocks_for_training_are_written() {
    let source = "a{%- generation -%} b {%- endgeneration %}c{{ '{% generation %}' }}";
    assert_eq!(render(source).unwrap(), "abc{% if true %}");
}

#[test]
fn dates_are_those_of_the_calendar() {
    let at = |format: &str, seconds: u64| clock::strftime(format, seconds).unwrap();
    // `date -u -d @1795611909`
    assert_eq!(
        at("%Y-%m-%d %H:%M:%S %A %B %a %b %y", 1_795_611_909),
        "2026-11-25 13:05:09 Wednesday November Wed Nov 26"
    );
    assert_eq!(at("%d %b %Y", 951_782_400), "29 Feb 2000");
    assert_eq!(at("%-d %-m %I%p %F %T %% %Z", 0), "1 1 12AM 1970-01-01 00:00:00 % UTC");
    assert_eq!(at("%A", 4_107_542_400), "Monday");
    assert!(clock::strftime("%Q", 0).is_err());
    assert!(clock::strftime("%", 0).is_err());
}
