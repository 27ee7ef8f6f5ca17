//! Free text in model files: notes to people, where code is sometimes hidden for a loader to find.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::{Format, format, inspect};

/// Shortest encoded text that can hold a program.
const ENCODED_BYTES_MIN: usize = 24;
/// Longest text that is decoded.
const ENCODED_BYTES_MAX: usize = 16 << 20;

/// Calls that do harm when text is given to an interpreter. Each needs its argument's bracket, so
/// that prose about them does not match.
const CALLS: [&str; 10] = [
    "__import__(",
    "os.system(",
    "os.popen(",
    "subprocess.",
    "eval(",
    "exec(",
    "pickle.loads(",
    "marshal.loads(",
    "builtins.",
    "__builtins__",
];

/// Scans the value of one key.
pub(crate) fn scan(key: &str, value: &str, context: &mut Context) {
    let place = format!("metadata {key:?}");
    if let Some(call) = code(value) {
        let message = format!("the metadata holds code that calls {}", quote(call));
        context.attack("metadata-code", Severity::Medium, &place, message);
    }
    let encoded = value.trim();
    if !(ENCODED_BYTES_MIN..ENCODED_BYTES_MAX).contains(&encoded.len()) {
        return;
    }
    let decoded = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
    let Ok(decoded) = decoded else { return };
    let found = format::identify(&decoded);
    if matches!(found, Format::Pickle | Format::Executable | Format::Zip) {
        context.attack("metadata-encoded", Severity::Medium, &place, format!("the metadata hides {found}"));
        context.inside(key, |context| inspect(&decoded, context));
    }
}

/// The harmful call in a text that is a program: it must also read like one.
fn code(value: &str) -> Option<&'static str> {
    let statement = |line: &str| {
        let line = line.trim_start();
        line.starts_with("import ") || line.starts_with("from ") && line.contains(" import ")
    };
    let call = CALLS.into_iter().find(|call| value.contains(call))?;
    let imports = value.split(['\n', ';']).any(statement);
    let expression = value.trim_start().starts_with(call) && value.contains(')');
    (imports || expression).then_some(call)
}
