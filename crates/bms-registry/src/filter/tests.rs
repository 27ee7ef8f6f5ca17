use super::*;

fn compare(kind: Kind, key: &str, operator: Operator, value: Value) -> Condition {
    Condition { subject: Subject { kind, key: key.into() }, test: Test::Compare(operator, value) }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

#[track_caller]
fn check(filter: &str, want: &[Condition]) {
    assert_eq!(parse(filter).unwrap(), want, "{filter}");
}

#[test]
fn conditions_are_read() {
    check("", &[]);
    check(" \t\n", &[]);
    check("metrics.loss<0.5", &[compare(Kind::Metric, "loss", Operator::Lt, Value::Number(0.5))]);
    check(
        "metric.`my loss` >= -1e-3",
        &[compare(Kind::Metric, "my loss", Operator::Ge, Value::Number(-1e-3))],
    );
    check(
        "tags.mlflow.parentRunId = 'a'",
        &[compare(Kind::Tag, "mlflow.parentRunId", Operator::Eq, text("a"))],
    );
    check("tags.\"a.b c\" != \"x\"", &[compare(Kind::Tag, "a.b c", Operator::Ne, text("x"))]);
    check("name iLike '%digits_'", &[compare(Kind::Attribute, "name", Operator::Ilike, text("%digits_"))]);
    check("params.p LIKE 'it''s'", &[compare(Kind::Param, "p", Operator::Like, text("it's"))]);
    check("attributes.status <> 'x'", &[compare(Kind::Attribute, "status", Operator::Ne, text("x"))]);
    check(
        "a = '1' and b > 2 AND metrics.c == 3",
        &[
            compare(Kind::Attribute, "a", Operator::Eq, text("1")),
            compare(Kind::Attribute, "b", Operator::Gt, Value::Number(2.0)),
            compare(Kind::Metric, "c", Operator::Eq, Value::Number(3.0)),
        ],
    );
    let subject = || Subject { kind: Kind::Attribute, key: "run_id".into() };
    let list = || vec!["a".to_owned(), "b".to_owned()];
    check(
        "run_id IN ('a','b')",
        &[Condition { subject: subject(), test: Test::In { negated: false, values: list() } }],
    );
    check(
        "run_id not in ('a', 'b')",
        &[Condition { subject: subject(), test: Test::In { negated: true, values: list() } }],
    );
    check("run_id IS NULL", &[Condition { subject: subject(), test: Test::Null { negated: false } }]);
    check("run_id is not null", &[Condition { subject: subject(), test: Test::Null { negated: true } }]);
}

#[test]
fn what_is_no_filter_is_refused_with_its_place() {
    for (filter, said) in [
        ("name", "ends where an operator"),
        ("name =", "ends where a value"),
        ("name = x", "`x` at character 8"),
        ("name = 'x' or a = 'b'", "never with OR"),
        ("name = 'x'; DROP TABLE runs", "';' at character 11"),
        ("name = 'x' -- more", "`--` at character 12"),
        ("name = 'x", "quote at character 8"),
        ("other.key = 'x'", "nothing that can be searched by"),
        ("metrics. = 1", "lacks a name"),
        ("metrics.x = 1e", "not a number"),
        ("metrics.x = -nan", "not a number"),
        ("name IN ()", "quoted text"),
        ("name IN ('a' 'b')", "`,` or `)`"),
        ("name NOT LIKE 'a'", "where IN"),
        ("a ! 'b'", "no operator"),
        ("name = 'x' AND", "ends where a name"),
        ("= 'x'", "where a name"),
    ] {
        let error = parse(filter).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{filter}");
        assert!(error.message().contains(said), "{filter}: {error}");
    }
}

#[test]
fn filters_have_limits() {
    let long = "a".repeat(limits::FILTER_BYTES_MAX + 1);
    assert_eq!(parse(&long).unwrap_err().code(), Code::TooLarge);
    let many = vec!["a = 'b'"; limits::FILTER_CONDITIONS_MAX + 1].join(" AND ");
    assert_eq!(parse(&many).unwrap_err().code(), Code::TooLarge);
    parse(&vec!["a = 'b'"; limits::FILTER_CONDITIONS_MAX].join(" AND ")).unwrap();
}

#[test]
fn orders_are_read() {
    let order =
        |kind, key: &str, descending| Order { subject: Subject { kind, key: key.into() }, descending };
    assert_eq!(parse_order("metrics.loss DESC").unwrap(), order(Kind::Metric, "loss", true));
    assert_eq!(parse_order("start_time asc").unwrap(), order(Kind::Attribute, "start_time", false));
    assert_eq!(parse_order("`start_time`").unwrap(), order(Kind::Attribute, "start_time", false));
    for bad in ["", "a b", "a DESC DESC", "a; x", "'a'"] {
        assert_eq!(parse_order(bad).unwrap_err().code(), Code::InvalidRequest, "{bad:?}");
    }
}

/// Numbers that look random and are the same every time (xorshift, Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn of<'a, T>(&mut self, things: &'a [T]) -> &'a T {
        &things[self.roll(things.len())]
    }

    fn text(&mut self, letters: &[char]) -> String {
        (0..self.roll(8)).map(|_| *self.of(letters)).collect()
    }
}

const LETTERS: [char; 14] = ['a', 'Z', '0', ' ', '\'', '"', '.', '%', '_', ';', '-', '\\', 'é', '数'];

fn any_condition(dice: &mut Dice) -> Condition {
    let kind = *dice.of(&[Kind::Attribute, Kind::Metric, Kind::Param, Kind::Tag]);
    // A backtick ends a key, and no key is empty.
    let key = format!("k{}", dice.text(&LETTERS));
    let operators = [
        Operator::Eq,
        Operator::Ne,
        Operator::Lt,
        Operator::Le,
        Operator::Gt,
        Operator::Ge,
        Operator::Like,
        Operator::Ilike,
    ];
    let value = match dice.roll(2) {
        0 => Value::Text(dice.text(&LETTERS)),
        _ => Value::Number((dice.roll(2_000_000) as f64 - 1e6) / 128.0),
    };
    let test = match dice.roll(4) {
        0 => Test::Null { negated: dice.roll(2) == 0 },
        1 => {
            let values = (0..=dice.roll(3)).map(|_| dice.text(&LETTERS)).collect();
            Test::In { negated: dice.roll(2) == 0, values }
        }
        _ => Test::Compare(*dice.of(&operators), value),
    };
    Condition { subject: Subject { kind, key }, test }
}

/// A filter's text, as a client would write it.
fn written(condition: &Condition) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let key = format!("`{}`", condition.subject.key);
    let subject = match condition.subject.kind {
        Kind::Attribute => key,
        Kind::Metric => format!("metrics.{key}"),
        Kind::Param => format!("params.{key}"),
        Kind::Tag => format!("tags.{key}"),
    };
    let not = |negated: &bool| if *negated { "NOT " } else { "" };
    let rest = match &condition.test {
        Test::Null { negated } => format!("IS {}NULL", not(negated)),
        Test::In { negated, values } => {
            let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
            format!("{}IN ({})", not(negated), values.join(", "))
        }
        Test::Compare(operator, value) => {
            let sign = match operator {
                Operator::Eq => "=",
                Operator::Ne => "!=",
                Operator::Lt => "<",
                Operator::Le => "<=",
                Operator::Gt => ">",
                Operator::Ge => ">=",
                Operator::Like => "LIKE",
                Operator::Ilike => "ILIKE",
            };
            match value {
                Value::Text(text) => format!("{sign} {}", quoted(text)),
                Value::Number(number) => format!("{sign} {number}"),
            }
        }
    };
    format!("{subject} {rest}")
}

#[test]
fn what_is_written_is_read() {
    let mut dice = Dice(88_172_645_463_325_252);
    for _ in 0..3000 {
        let conditions: Vec<Condition> = (0..=dice.roll(4)).map(|_| any_condition(&mut dice)).collect();
        let filter = conditions.iter().map(written).collect::<Vec<_>>().join(" AND ");
        assert_eq!(parse(&filter).unwrap(), conditions, "{filter}");
    }
}

#[test]
fn any_text_is_read_or_refused() {
    let words = [
        "metrics.", "tags", ".", "`", "'", "\"", "=", "!=", "<", ">", "!", "(", ")", ",", " and ", " IN ",
        " NOT ", " IS ", "NULL", "LIKE", "1", "-", "1e999", "nan", "é", "\0", "\u{202e}", ";", "--", " ",
    ];
    let mut dice = Dice(362_436_069);
    for _ in 0..20_000 {
        let text: String = (0..dice.roll(12)).map(|_| *dice.of(&words)).collect();
        for refused in [parse(&text).err(), parse_order(&text).err()].into_iter().flatten() {
            assert!(matches!(refused.code(), Code::InvalidRequest | Code::TooLarge), "{text:?}: {refused}");
        }
    }
}
