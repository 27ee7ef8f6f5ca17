use serde_json::json;

use super::*;

fn doubled(times: usize, end: &str) -> String {
    let lines: String = (0..times).map(|i| format!("A{i}: A{0} A{0}\n", i + 1)).collect();
    format!("start: A0\n{lines}A{times}: {end}\n")
}

/// Patterns whose texts are hard to tell apart: an `a` at another place from the end each.
fn places(count: usize) -> Vec<String> {
    (0..count).map(|place| format!("^.*a.{{{place}}}$")).collect()
}

fn joined(count: usize, mark: &str) -> String {
    places(count).iter().map(|pattern| format!("/{pattern}/")).collect::<Vec<_>>().join(mark)
}

#[test]
fn what_would_take_all_of_the_memory_weighs_too_much() {
    let grammars = [
        doubled(16, "\"x\"?"),
        doubled(40, "/[ab]/?"),
        format!("start: A\nA: {}\n", joined(30, " & ")),
        // Brought together by references, on two lines, in a group, in a rule, behind a comment, in a grammar in it.
        format!("start: A\nA: B & C\nB: {}\nC: {}\n", joined(5, " & "), joined(6, " & ")),
        format!("start: A\nA: \"y\"\n  | {}\n", joined(30, " & ")),
        format!("start: A\nA: (\"y\" | ({}))+\n", joined(30, " & ")),
        format!("start: ~(~({}))\n", joined(30, " & ")),
        format!("start: A # \"\nA: {} # \"\n", joined(30, " & ")),
        format!("start: <\"> A\nA: {}\n", joined(30, " & ")),
        format!("start: inner\ninner: %lark {{ start: A\nA: {} }}\n", joined(30, " & ")),
        format!("start: A\nA: {}\n", "B ".repeat(9000)) + "B: /[ab]/?\n",
        format!("start: A\nA.5: /{}/\n", "[ab]?".repeat(9000)),
        format!("start: A\nA: /{}/i\n", "(ab)?".repeat(9000)),
        format!("%ignore A\nstart: \"x\"\nA: {}\n", joined(30, "&")),
        format!("start: %json {{\"type\": \"string\", \"allOf\": [{}]}}\n", listed(30)),
        format!("start: A\nA: %regex {{\"substring_chars\": \"{}\"}}\n", "ab".repeat(9000)),
    ];
    for grammar in grammars {
        let error = lark::check(&grammar).expect_err(&grammar);
        assert_eq!(error.code(), Code::TooLarge, "{error}");
    }
}

fn listed(count: usize) -> String {
    let all: Vec<String> =
        places(count).iter().map(|pattern| json!({ "pattern": pattern }).to_string()).collect();
    all.join(",")
}

#[test]
fn patterns_are_found_wherever_they_meet() {
    let patterns: Vec<_> = places(30).iter().map(|pattern| json!({ "pattern": pattern })).collect();
    let mut chained = serde_json::Map::new();
    for (at, pattern) in places(30).iter().enumerate() {
        let next = format!("#/$defs/d{}", at + 1);
        chained.insert(format!("d{at}"), json!({ "pattern": pattern, "$ref": next }));
    }
    let of_property: Vec<_> =
        patterns.iter().map(|pattern| json!({ "properties": { "x": pattern } })).collect();
    let of_items: Vec<_> = patterns.iter().map(|pattern| json!({ "items": pattern })).collect();
    let of_others: Vec<_> =
        patterns.iter().map(|pattern| json!({ "additionalProperties": pattern })).collect();
    let nested: Vec<_> =
        patterns.iter().map(|pattern| json!({ "anyOf": [pattern, { "type": "null" }] })).collect();
    let schemas = [
        json!({ "type": "string", "allOf": patterns }),
        json!({ "items": { "properties": { "x": { "allOf": patterns } } } }),
        json!({ "$ref": "#/$defs/d0", "$defs": chained }),
        json!({ "properties": { "y": { "$ref": "#/$defs/d1" } }, "$defs": chained }),
        json!({ "allOf": of_property }),
        json!({ "allOf": of_items }),
        json!({ "allOf": of_others }),
        json!({ "allOf": nested }),
        json!({ "pattern": "x?".repeat(9000) }),
        json!({ "type": "object", "x-guidance": { "whitespace_pattern": "x?".repeat(9000) } }),
        json!({ "allOf": [{ "multipleOf": 2310 }, { "multipleOf": 1287 }, { "multipleOf": 323 }] }),
        json!({ "multipleOf": 9_699_690 }),
        json!({ "multipleOf": 0.123_456_789 }),
    ];
    for schema in schemas {
        let error = schema::check(&schema).expect_err(&schema.to_string());
        assert_eq!(error.code(), Code::TooLarge, "{error}");
    }
}

#[test]
fn what_people_write_is_light() {
    let grammars = [
        "start: A\nA: /(?s:.{0,500})/ & ~/.*(foo|bar|baz).*/ & /[A-Za-z ,.]+/\n",
        "start: \"{\" pair (\",\" pair)* \"}\"\npair: KEY \":\" VALUE\nKEY: /\"[a-z]{1,40}\"/\nVALUE: /-?[0-9]+/ | \"true\"\n%ignore /[ \\t]+/\n",
        "%import common.INT\nstart: INT (\"+\" INT)*\n",
        "start[max_tokens=5]: \"a\"~2..7 b{3,5}\nb: /[0-9]/ // (a comment \"\n",
    ];
    for grammar in grammars {
        lark::check(grammar).unwrap();
    }
    let text = json!({ "type": "string", "pattern": "^[A-Z][a-z]+( [A-Z][a-z]+)*$", "minLength": 2, "maxLength": 80 });
    let tree =
        json!({ "type": "object", "properties": { "name": text, "children": { "items": { "$ref": "#" } } } });
    let mut many = serde_json::Map::new();
    for at in 0..500 {
        many.insert(
            format!("field_{at}"),
            json!({ "type": "string", "pattern": format!("^[a-z]{{{at}}}$") }),
        );
    }
    let schemas = [
        tree,
        json!({ "type": "object", "properties": many }),
        json!({ "allOf": [{ "properties": { "a": text } }, { "properties": { "b": text } }], "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "number", "multipleOf": 0.01, "minimum": 0, "maximum": 1e6 }),
        json!({ "type": "integer", "multipleOf": 1_000_000 }),
        json!({ "patternProperties": { "^x-": { "type": "string" }, "^[0-9]+$": { "type": "integer" } }, "additionalProperties": false }),
    ];
    for schema in schemas {
        schema::check(&schema).unwrap();
    }
}

/// Where lists meet, the parts multiply; elsewhere they add up.
#[test]
fn weights_are_sums_and_products() {
    assert_eq!(regex("abc"), 1);
    assert_eq!(regex("a?b?c?"), 6);
    assert_eq!(regex("(ab|[b-c]){5,90}"), 3);
    assert_eq!(at_once([].into_iter()), 0);
    assert_eq!(at_once([7].into_iter()), 7);
    assert_eq!(at_once([7, 3].into_iter()), 32);
    assert_eq!(at_once([u64::MAX, 3].into_iter()), u64::MAX);
    assert_eq!(regex("("), 8);
}

/// What is cut anywhere, or holds anything, is read to its end.
#[test]
fn any_text_can_be_weighed() {
    let whole = "?start: A~2..3 \"ü\\\"\"i /[^\\/]+/imx <|x|> %json {\"a\": [1]} %regex {\"substring_words\": \"ä b\"} & ~B # ö\nA.-2: \"a\"..\"z\" | _B\n";
    for (at, _) in whole.char_indices() {
        drop(lark::check(&whole[..at]));
        drop(lark::check(&whole[at..]));
    }
    for text in [
        "\\", "\"\\", "/\\", "/\\ü", "%", "<", "~", "%json", "%regex {", "?", "!_", "\"ü", "/ü", "::",
        "%lark {",
    ] {
        drop(lark::check(text));
    }
}
