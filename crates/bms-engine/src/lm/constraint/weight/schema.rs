//! The weight of a JSON schema: what patterns and bounds meet in one value.
//!
//! The compiler merges all that `allOf`, `anyOf` and `$ref` say of a value into one schema, property by property, and joins the
//! patterns that meet. The same is followed here without building anything.

use std::collections::{BTreeSet, HashSet};

use bms_wire::limits::MULTIPLE_OF_MAX;
use bms_wire::{Code, Error, Result};
use serde_json::{Map, Value};

use super::{Scale, at_once, regex};

/// Parts of an expression for a `format`, about as many as the longest has.
const FORMAT: u64 = 64;
/// Schemas looked at while merging; more than a schema of the longest allowed text has of its own.
const VISITS_MAX: usize = 200_000;

/// Checks what is in a schema.
///
/// # Errors
/// [`Code::TooLarge`] when expressions or multiples weigh too much, or too many parts are merged.
pub(in super::super) fn check(schema: &Value) -> Result<()> {
    weigh(schema, &mut Scale::default())
}

/// The same, beside other expressions.
pub(super) fn weigh(schema: &Value, scale: &mut Scale) -> Result<()> {
    let mut merge = Merge { root: schema, scale, visits: 0, seen: HashSet::new(), weighed: HashSet::new() };
    // The compiler's own options hold expressions too.
    if let Some(options) = schema.get("x-guidance").and_then(Value::as_object) {
        options.values().filter_map(Value::as_str).try_for_each(|option| merge.expression(&[option], 1))?;
    }
    merge.value(&[schema])
}

type Schemas<'a> = Vec<&'a Value>;

struct Merge<'a, 's> {
    root: &'a Value,
    scale: &'s mut Scale,
    visits: usize,
    /// What was merged already: recursive schemas come back to it.
    seen: HashSet<Vec<*const Value>>,
    /// Expressions on the scale already: the compiler shares equal ones.
    weighed: HashSet<Vec<String>>,
}

impl<'a> Merge<'a, '_> {
    /// Looks at a value of which all these schemas hold.
    fn value(&mut self, schemas: &[&'a Value]) -> Result<()> {
        let mut merged = Schemas::new();
        let mut choices: Vec<&'a Vec<Value>> = Vec::new();
        self.collect(schemas, &mut merged, &mut choices)?;
        self.choose(merged, &choices)
    }

    /// All schemas that hold besides these, and the lists of which one member holds.
    fn collect(
        &mut self,
        schemas: &[&'a Value],
        merged: &mut Schemas<'a>,
        choices: &mut Vec<&'a Vec<Value>>,
    ) -> Result<()> {
        let mut known: HashSet<*const Value> =
            merged.iter().map(|schema| std::ptr::from_ref(*schema)).collect();
        let mut open: Schemas<'a> = schemas.to_vec();
        while let Some(schema) = open.pop() {
            let new = known.insert(schema);
            let Some(fields) = schema.as_object().filter(|_| new) else { continue };
            self.visit(1)?;
            merged.push(schema);
            open.extend(fields.get("allOf").and_then(Value::as_array).into_iter().flatten());
            open.extend(fields.get("$ref").and_then(Value::as_str).and_then(|to| self.resolve(to)));
            choices.extend(["anyOf", "oneOf"].iter().filter_map(|name| fields.get(*name)?.as_array()));
        }
        Ok(())
    }

    fn visit(&mut self, schemas: usize) -> Result<()> {
        self.visits += schemas;
        match self.visits <= VISITS_MAX {
            true => Ok(()),
            false => {
                let message = format!("the JSON schema combines its parts in more than {VISITS_MAX} ways");
                Err(Error::new(Code::TooLarge, message).hint("Use fewer allOf, anyOf and $ref of one value."))
            }
        }
    }

    /// What a reference within the document points to, read as the compiler does.
    fn resolve(&self, reference: &str) -> Option<&'a Value> {
        let path = reference.strip_prefix('#')?;
        if path.is_empty() || path == "/" {
            return Some(self.root);
        }
        path.strip_prefix('/')?.split('/').try_fold(self.root, |value, segment| match value {
            Value::Array(items) => items.get(segment.parse::<usize>().ok()?),
            _ => value.get(segment),
        })
    }

    /// Takes each member of each choice in turn.
    fn choose(&mut self, merged: Schemas<'a>, choices: &[&'a Vec<Value>]) -> Result<()> {
        let Some((choice, others)) = choices.split_first() else { return self.merged(merged) };
        for member in *choice {
            self.visit(merged.len())?;
            let mut with = merged.clone();
            let mut further = others.to_vec();
            self.collect(&[member], &mut with, &mut further)?;
            self.choose(with, &further)?;
        }
        Ok(())
    }

    fn merged(&mut self, schemas: Schemas<'a>) -> Result<()> {
        let mut key: Vec<*const Value> = schemas.iter().map(|schema| std::ptr::from_ref(*schema)).collect();
        key.sort_unstable();
        if !self.seen.insert(key) {
            return Ok(());
        }
        let objects: Vec<&'a Map<String, Value>> =
            schemas.iter().filter_map(|schema| schema.as_object()).collect();
        self.strings(&objects)?;
        multiples(&objects)?;
        self.properties(&objects)?;
        self.items(&objects)
    }

    /// Patterns, formats and lengths that meet in one text.
    fn strings(&mut self, objects: &[&'a Map<String, Value>]) -> Result<()> {
        let texts = |name: &str| -> BTreeSet<&'a str> {
            objects.iter().filter_map(|object| object.get(name)?.as_str()).collect()
        };
        let (patterns, formats) = (texts("pattern"), texts("format"));
        if patterns.is_empty() && formats.len() < 2 {
            return Ok(());
        }
        let bounded =
            objects.iter().any(|object| object.contains_key("minLength") || object.contains_key("maxLength"));
        let others = FORMAT.saturating_pow(formats.len() as u32).saturating_mul(if bounded { 3 } else { 1 });
        self.expression(&patterns.into_iter().collect::<Vec<_>>(), others)
    }

    /// Puts patterns that must match together, and something else of this weight, on the scale.
    fn expression(&mut self, patterns: &[&str], others: u64) -> Result<()> {
        let weight = at_once(patterns.iter().map(|pattern| regex(pattern))).max(1).saturating_mul(others);
        let first = patterns.first().map_or("", |pattern| pattern.get(..40).unwrap_or(pattern));
        if !self.weighed.insert(patterns.iter().map(|pattern| (*pattern).to_owned()).collect()) {
            return super::light(weight, &format!("the pattern {first:?} with what else holds of the text"));
        }
        self.scale.add(weight, &format!("the pattern {first:?} with what else holds of the text"))
    }

    /// Each named property, each pattern of names, and all others.
    fn properties(&mut self, objects: &[&'a Map<String, Value>]) -> Result<()> {
        let mapped =
            |object: &'a Map<String, Value>, keyword: &str| object.get(keyword).and_then(Value::as_object);
        let named: BTreeSet<&'a String> =
            objects.iter().filter_map(|object| mapped(object, "properties")).flat_map(Map::keys).collect();
        let by_pattern: BTreeSet<&'a String> = objects
            .iter()
            .filter_map(|object| mapped(object, "patternProperties"))
            .flat_map(Map::keys)
            .collect();
        for pattern in &by_pattern {
            // The compiler tells patterns apart two by two, and from the names.
            let heaviest =
                by_pattern.iter().filter(|other| *other != pattern).map(|other| regex(other)).max();
            self.expression(&[pattern], heaviest.unwrap_or(0) + 1)?;
            let of_pattern = |object: &&'a Map<String, Value>| {
                mapped(object, "patternProperties")
                    .and_then(|all| all.get(*pattern))
                    .or(object.get("additionalProperties"))
            };
            self.value(&objects.iter().filter_map(of_pattern).collect::<Schemas<'_>>())?;
        }
        let others = |object: &&'a Map<String, Value>| object.get("additionalProperties");
        for name in named {
            // At most one pattern of an object can fit the name, since they exclude each other; each is tried.
            for pattern in by_pattern.iter().map(Some).chain([None]) {
                let of_name = |object: &&'a Map<String, Value>| {
                    let own = mapped(object, "properties").and_then(|all| all.get(name));
                    let fits = pattern.and_then(|pattern| mapped(object, "patternProperties")?.get(*pattern));
                    own.into_iter().chain(fits).chain(if own.is_none() && fits.is_none() {
                        others(object)
                    } else {
                        None
                    })
                };
                self.value(
                    &objects
                        .iter()
                        .flat_map(|object| of_name(object).collect::<Vec<_>>())
                        .collect::<Schemas<'_>>(),
                )?;
            }
        }
        self.value(&objects.iter().filter_map(others).collect::<Schemas<'_>>())
    }

    /// Each listed item, and all others.
    fn items(&mut self, objects: &[&'a Map<String, Value>]) -> Result<()> {
        // Before 2020-12 a list of items stood in `items`, and the others in `additionalItems`.
        let listed = |object: &'a Map<String, Value>| {
            object
                .get("prefixItems")
                .and_then(Value::as_array)
                .or(object.get("items").and_then(Value::as_array))
        };
        let others = |object: &'a Map<String, Value>| {
            object.get("items").filter(|items| !items.is_array()).or(object.get("additionalItems"))
        };
        let most = objects.iter().filter_map(|object| listed(object)).map(Vec::len).max().unwrap_or(0);
        for at in 0..most {
            let here = objects.iter().filter_map(|object| {
                listed(object).and_then(|items| items.get(at)).or_else(|| others(object))
            });
            self.value(&here.collect::<Schemas<'_>>())?;
        }
        self.value(&objects.iter().filter_map(|object| others(object)).collect::<Schemas<'_>>())
    }
}

/// The multiples that meet in one number: their least common one must not have too many remainders.
fn multiples(objects: &[&Map<String, Value>]) -> Result<()> {
    let mut common: u64 = 1;
    for multiple in objects.iter().filter_map(|object| object.get("multipleOf")?.as_f64()) {
        let numerator = numerator(multiple).unwrap_or(u64::MAX);
        common = common.checked_div(gcd(common, numerator)).unwrap_or(1).saturating_mul(numerator);
    }
    match common <= MULTIPLE_OF_MAX {
        true => Ok(()),
        false => {
            let message =
                format!("the JSON schema asks for a multiple of {common}, more than {MULTIPLE_OF_MAX}");
            Err(Error::new(Code::TooLarge, message)
                .hint("Leave out multipleOf, and check the number when it has come."))
        }
    }
}

/// A decimal number's digits as a whole number, without zeros at either end.
fn numerator(number: f64) -> Option<u64> {
    let text = format!("{}", number.abs());
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let digits = digits.trim_matches('0');
    if digits.is_empty() { Some(1) } else { digits.parse().ok() }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
