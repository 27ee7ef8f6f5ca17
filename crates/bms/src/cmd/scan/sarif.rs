//! SARIF 2.1.0: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use bms_bundle::Severity;
use bms_bundle::scan::RULES;
use serde_json::{Value, json};

use super::Outcome;

/// The document.
pub(super) fn document(outcomes: &[Outcome]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(
            |rule| json!({"id": rule.id, "shortDescription": {"text": rule.finds}, "help": {"text": help(rule.id)}}),
        )
        .collect();
    let results: Vec<Value> = outcomes.iter().flat_map(results).collect();
    let artifacts: Vec<Value> = outcomes
        .iter()
        .map(|outcome| json!({"location": {"uri": uri(&outcome.scanned.path)}, "length": outcome.scanned.size_bytes}))
        .collect();
    let driver = json!({"name": "bms scan", "version": env!("CARGO_PKG_VERSION"), "rules": rules});
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            "artifacts": artifacts,
            "invocations": [{"executionSuccessful": true}],
            "results": results,
        }],
    })
}

fn help(rule: &str) -> String {
    format!("See {rule} in docs/reference/scan-rules.md.")
}

fn results(outcome: &Outcome) -> Vec<Value> {
    let file = uri(&outcome.scanned.path);
    let result = |finding: &bms_bundle::Finding| {
        let level = match finding.severity {
            Severity::Info | Severity::Low => "note",
            Severity::Medium => "warning",
            Severity::High | Severity::Critical => "error",
        };
        json!({
            "ruleId": finding.rule,
            "ruleIndex": RULES.iter().position(|rule| rule.id == finding.rule),
            "level": level,
            "message": {"text": finding.message},
            "locations": [{
                "physicalLocation": {"artifactLocation": {"uri": file}},
                "logicalLocations": [{"fullyQualifiedName": finding.location}],
            }],
            "properties": {"severity": finding.severity, "nature": finding.nature},
        })
    };
    outcome.scanned.findings.iter().map(result).collect()
}

/// A path as a relative reference: what has a meaning in one is escaped.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.replace('\\', "/").bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' | b'~' | b'@' => {
                uri.push(char::from(byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::uri;

    #[test]
    fn paths_are_relative_references() {
        assert_eq!(uri("a b/c%d.pt"), "a%20b/c%25d.pt");
        assert_eq!(uri("model:x@1/y"), "model%3Ax@1/y");
    }
}
