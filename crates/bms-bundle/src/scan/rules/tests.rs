use std::collections::BTreeSet;
use std::path::Path;

use super::RULES;

/// The names that the scanner's sources give to findings.
fn named() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![sources.join("scan.rs"), sources.join("scan")];
    let mut names = BTreeSet::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.ends_with("rules.rs") && !path.to_string_lossy().contains("tests") {
            let source = std::fs::read_to_string(path).unwrap_or_default();
            names.extend(
                source.split('"').filter(|text| RULES.iter().any(|rule| rule.id == *text)).map(str::to_owned),
            );
            for call in ["attack(", "malformed(", "note("] {
                for rest in source.split(call).skip(1) {
                    let argument =
                        rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                    names.extend(argument.filter(|name| name.contains('-')).map(str::to_owned));
                }
            }
        }
    }
    names
}

#[test]
fn every_rule_is_listed_once_and_used() {
    let listed: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert!(listed.is_sorted_by(|a, b| a < b), "the table is sorted and names nothing twice");
    let named = named();
    for id in &listed {
        assert!(named.contains(*id), "{id} is listed and never reported");
    }
    for id in &named {
        assert!(listed.contains(&id.as_str()), "{id} is reported and not listed");
    }
}

#[test]
fn every_rule_says_what_it_finds() {
    for rule in RULES {
        assert!(rule.finds.ends_with('.'), "{}", rule.id);
    }
}
