//! JSON with one spelling, so that a hash over it means the value.

use serde_json::Value;

/// `value` with object keys sorted by their bytes and no white space. Written out here because the order
/// of `serde_json`'s own maps depends on a feature any crate of the build may switch on.
pub(super) fn json(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => list(out, '[', ']', items, write),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            list(out, '{', '}', &entries, |(key, value), out| {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(value, out);
            });
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

fn list<T>(out: &mut String, open: char, close: char, items: &[T], mut each: impl FnMut(&T, &mut String)) {
    out.push(open);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        each(item, out);
    }
    out.push(close);
}

#[cfg(test)]
mod tests;
