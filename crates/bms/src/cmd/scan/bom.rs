//! CycloneDX 1.6 with machine-learning components: <https://cyclonedx.org/docs/1.6/json/>.

use bms_bundle::Format;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Outcome;

/// The document.
pub(super) fn document(outcomes: &[Outcome]) -> Value {
    let components: Vec<Value> =
        outcomes.iter().enumerate().map(|(index, outcome)| component(index, outcome, outcomes)).collect();
    let vulnerabilities: Vec<Value> =
        outcomes.iter().enumerate().flat_map(|(index, outcome)| vulnerabilities(index, outcome)).collect();
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": serial_number(outcomes),
        "version": 1,
        "metadata": {
            "timestamp": now(),
            "tools": {"components": [{"type": "application", "name": "bms", "version": env!("CARGO_PKG_VERSION")}]},
        },
        "components": components,
        "vulnerabilities": vulnerabilities,
    })
}

fn reference(index: usize) -> String {
    format!("file-{}", index + 1)
}

fn component(index: usize, outcome: &Outcome, all: &[Outcome]) -> Value {
    let scanned = &outcome.scanned;
    let kind = match scanned.format {
        Format::Json | Format::Text | Format::Svg | Format::Png | Format::Jpeg | Format::Empty => "data",
        Format::Executable | Format::Unknown => "file",
        _ => "machine-learning-model",
    };
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(index),
        "name": scanned.path,
        "properties": [
            {"name": "bms:format", "value": scanned.format.to_string()},
            {"name": "bms:size_bytes", "value": scanned.size_bytes.to_string()},
            {"name": "bms:verdict", "value": super::verdict(outcome)},
        ],
    });
    if let Some((sha256, facts)) = &outcome.details {
        component["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
        if let Some(licence) =
            facts.licence.clone().or_else(|| licence_beside(outcome, all)).filter(|_| kind != "data")
        {
            component["licenses"] = json!([{"license": {"name": licence}}]);
        }
        if kind == "machine-learning-model" {
            component["modelCard"] = card(facts);
        }
        if let Some(name) = &facts.name {
            component["description"] = json!(name);
        }
    }
    component
}

/// What the card, settings or manifest in the same folder say.
fn licence_beside(outcome: &Outcome, all: &[Outcome]) -> Option<String> {
    let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
    let here = folder(&outcome.scanned.path);
    let beside = all.iter().filter(|other| folder(&other.scanned.path) == here);
    beside.filter_map(|other| other.details.as_ref()?.1.licence.clone()).next()
}

fn card(facts: &bms_bundle::scan::Facts) -> Value {
    let mut parameters = json!({});
    if let Some(architecture) = &facts.architecture {
        parameters["modelArchitecture"] = json!(architecture);
    }
    let mut card = json!({"modelParameters": parameters});
    if let Some(precision) = &facts.precision {
        card["properties"] = json!([{"name": "bms:precision", "value": precision}]);
    }
    card
}

fn vulnerabilities(index: usize, outcome: &Outcome) -> Vec<Value> {
    let one = |(number, finding): (usize, &bms_bundle::Finding)| {
        json!({
            "bom-ref": format!("{}-finding-{}", reference(index), number + 1),
            "id": finding.rule,
            "source": {"name": "bms scan"},
            "ratings": [{"severity": finding.severity, "method": "other"}],
            "description": finding.message,
            "detail": finding.location,
            "affects": [{"ref": reference(index)}],
        })
    };
    outcome.scanned.findings.iter().enumerate().map(one).collect()
}

/// The same files give the same number.
fn serial_number(outcomes: &[Outcome]) -> String {
    let mut hasher = Sha256::new();
    for outcome in outcomes {
        hasher.update(outcome.scanned.path.as_bytes());
        hasher.update(outcome.details.as_ref().map_or("", |(sha256, _)| sha256).as_bytes());
    }
    let mut bytes: [u8; 32] = hasher.finalize().into();
    // A UUID of version 8: a layout of one's own.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("urn:uuid:{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// The time in UTC, as RFC 3339 writes it.
fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    time(now.as_secs())
}

fn time(seconds: u64) -> String {
    // Days to a date: Howard Hinnant's `civil_from_days`.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::time;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(time(1_764_268_245), "2025-11-27T18:30:45Z");
    }
}
