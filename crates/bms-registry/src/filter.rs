//! The filter language of searches, as MLflow's clients write it:
//! `metrics.loss < 0.5 and tags.team = 'vision' and name ILIKE '%digits%'`.
//!
//! A filter is parsed into conditions; nothing of its text ever becomes part of an SQL statement. The grammar:
//!
//! ```text
//! filter    = [ condition { AND condition } ]
//! condition = subject ( operator value | [NOT] IN ( value, … ) | IS [NOT] NULL )
//! subject   = attribute | kind . key            kind: metrics params tags attributes
//! operator  = "=" "!=" "<" "<=" ">" ">=" LIKE ILIKE
//! value     = 'text' | "text" | number          a doubled quote stands for one
//! key       = word | `any text` | "any text"
//! ```

use bms_wire::{Code, Error, Result, limits};

mod words;

use words::{Word, words};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A field of the thing itself, such as `name` or `start_time`.
    Attribute,
    /// The last value of a metric.
    Metric,
    /// A parameter.
    Param,
    /// A tag.
    Tag,
}

/// What a condition is about, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its kind.
    pub kind: Kind,
    /// Its name within the kind.
    pub key: String,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// `%` and `_` stand for anything and for one character.
    Like,
    /// As [`Operator::Like`], whatever the case of ASCII letters.
    Ilike,
}

/// What is compared with.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A number, never NaN.
    Number(f64),
}

/// What has to hold of the subject.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It compares so with the value.
    Compare(Operator, Value),
    /// It is one of these, or none of them.
    In {
        /// None of them.
        negated: bool,
        /// The texts.
        values: Vec<String>,
    },
    /// It is absent, or present.
    Null {
        /// It is present.
        negated: bool,
    },
}

/// One condition of a filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// What it is about.
    pub subject: Subject,
    /// What has to hold.
    pub test: Test,
}

/// By what an answer is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is compared.
    pub subject: Subject,
    /// Largest first.
    pub descending: bool,
}

/// Parses a filter; an empty one has no conditions, and so holds of everything.
///
/// ```
/// let conditions = bms_registry::filter::parse("metrics.`my loss` <= 0.5 AND tags.team != 'it''s me'")?;
/// assert_eq!(conditions[0].subject.key, "my loss");
/// assert_eq!(conditions.len(), 2);
/// # Ok::<(), bms_wire::Error>(())
/// ```
///
/// # Errors
/// [`Code::InvalidRequest`] saying what was expected where; [`Code::TooLarge`].
pub fn parse(text: &str) -> Result<Vec<Condition>> {
    let mut reader = Reader::over(text)?;
    let mut conditions = Vec::new();
    if reader.peek().is_none() {
        return Ok(conditions);
    }
    loop {
        conditions.push(reader.condition()?);
        if limits::FILTER_CONDITIONS_MAX < conditions.len() {
            let what = format!("a filter has at most {} conditions", limits::FILTER_CONDITIONS_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        match reader.next() {
            None => return Ok(conditions),
            Some((_, word)) if word.is("and") => {}
            Some((_, word)) if word.is("or") => {
                return Err(Error::new(
                    Code::InvalidRequest,
                    "a filter joins conditions with AND, never with OR",
                )
                .hint("Ask once for each alternative, or list values with IN."));
            }
            Some((at, word)) => return Err(unexpected(at, &word, "AND or the end")),
        }
    }
}

/// Parses what an answer is ordered by: a subject, and `ASC` or `DESC` behind it.
///
/// # Errors
/// As [`parse`].
pub fn parse_order(text: &str) -> Result<Order> {
    let mut reader = Reader::over(text)?;
    let subject = reader.subject()?;
    let descending = match reader.next() {
        None => return Ok(Order { subject, descending: false }),
        Some((_, word)) if word.is("asc") => false,
        Some((_, word)) if word.is("desc") => true,
        Some((at, word)) => return Err(unexpected(at, &word, "ASC or DESC")),
    };
    match reader.next() {
        None => Ok(Order { subject, descending }),
        Some((at, word)) => Err(unexpected(at, &word, "the end")),
    }
}

/// The words of a filter, one after the other.
struct Reader {
    words: std::iter::Peekable<std::vec::IntoIter<(usize, Word)>>,
}

impl Reader {
    fn over(text: &str) -> Result<Reader> {
        if limits::FILTER_BYTES_MAX < text.len() {
            let what = format!("a filter has at most {} bytes", limits::FILTER_BYTES_MAX);
            return Err(Error::new(Code::TooLarge, what));
        }
        Ok(Reader { words: words(text)?.into_iter().peekable() })
    }

    fn peek(&mut self) -> Option<&Word> {
        self.words.peek().map(|(_, word)| word)
    }

    fn next(&mut self) -> Option<(usize, Word)> {
        self.words.next()
    }

    /// The next word, if it is this one.
    fn skip(&mut self, keyword: &str) -> bool {
        let found = self.peek().is_some_and(|word| word.is(keyword));
        if found {
            self.next();
        }
        found
    }

    fn need(&mut self, expected: &str) -> Result<(usize, Word)> {
        self.next().ok_or_else(|| {
            Error::new(Code::InvalidRequest, format!("the filter ends where {expected} should come"))
        })
    }

    fn subject(&mut self) -> Result<Subject> {
        match self.need("a name")? {
            (at, Word::Name { kind: Some(kind), key }) => match kind.to_ascii_lowercase().as_str() {
                "metric" | "metrics" => Ok(Subject { kind: Kind::Metric, key }),
                "param" | "params" | "parameter" | "parameters" => Ok(Subject { kind: Kind::Param, key }),
                "tag" | "tags" => Ok(Subject { kind: Kind::Tag, key }),
                "attribute" | "attributes" | "attr" | "run" => Ok(Subject { kind: Kind::Attribute, key }),
                _ => Err(Error::new(
                    Code::InvalidRequest,
                    format!("`{kind}` at character {at} of the filter is nothing that can be searched by"),
                )
                .hint("Use metrics.NAME, params.NAME, tags.NAME, or an attribute such as name.")),
            },
            (_, Word::Name { kind: None, key }) => Ok(Subject { kind: Kind::Attribute, key }),
            (at, other) => Err(unexpected(at, &other, "a name such as `metrics.loss`")),
        }
    }

    fn condition(&mut self) -> Result<Condition> {
        let subject = self.subject()?;
        if self.skip("is") {
            let negated = self.skip("not");
            return match self.need("NULL")? {
                (_, word) if word.is("null") => Ok(Condition { subject, test: Test::Null { negated } }),
                (at, other) => Err(unexpected(at, &other, "NULL")),
            };
        }
        let negated = self.skip("not");
        if self.skip("in") {
            let values = self.list()?;
            return Ok(Condition { subject, test: Test::In { negated, values } });
        }
        let (at, word) = self.need("an operator")?;
        let operator = match &word {
            Word::Operator(operator) if !negated => *operator,
            word if word.is("like") && !negated => Operator::Like,
            word if word.is("ilike") && !negated => Operator::Ilike,
            _ => return Err(unexpected(at, &word, if negated { "IN" } else { "an operator such as `=`" })),
        };
        let value = match self.need("a value")? {
            (_, Word::Text(text)) => Value::Text(text),
            (_, Word::Number(number)) => Value::Number(number),
            (at, other) => return Err(unexpected(at, &other, "a number or quoted text")),
        };
        Ok(Condition { subject, test: Test::Compare(operator, value) })
    }

    fn list(&mut self) -> Result<Vec<String>> {
        match self.need("`(`")? {
            (_, Word::Open) => {}
            (at, other) => return Err(unexpected(at, &other, "`(`")),
        }
        let mut values = Vec::new();
        loop {
            match self.need("quoted text")? {
                (_, Word::Text(text)) => values.push(text),
                (at, other) => return Err(unexpected(at, &other, "quoted text")),
            }
            match self.need("`,` or `)`")? {
                (_, Word::Close) => return Ok(values),
                (_, Word::Comma) => {}
                (at, other) => return Err(unexpected(at, &other, "`,` or `)`")),
            }
        }
    }
}

fn unexpected(at: usize, word: &Word, expected: &str) -> Error {
    Error::new(
        Code::InvalidRequest,
        format!("the filter has {word} at character {at}, where {expected} should come"),
    )
}

#[cfg(test)]
mod tests;
