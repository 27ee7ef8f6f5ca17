use super::*;

fn wants(include: &[&str], exclude: &[&str], path: &str) -> bool {
    let own = |patterns: &[&str]| patterns.iter().map(|p| (*p).to_owned()).collect();
    Patterns::new(own(include), own(exclude)).unwrap().wants(path)
}

#[test]
fn stars_cross_folders() {
    assert!(wants(&[], &[], "a"));
    assert!(wants(&["*.json"], &[], "a/b.json"));
    assert!(!wants(&["*.json"], &[], "a/b.jsonl"));
    assert!(wants(&["a/"], &[], "a/b/c"));
    assert!(!wants(&["*"], &["*.bin"], "x.bin"));
    assert!(wants(&["model-0000?-of-*"], &[], "model-00001-of-00002.safetensors"));
    assert!(!wants(&["a?"], &[], "a"));
    assert!(wants(&["*a*b*"], &[], "xxaxxbxx"));
    assert!(!wants(&["*a*b"], &[], "bbbbaaaa"));
}

#[test]
fn an_empty_pattern_is_refused() {
    assert!(Patterns::new(vec![String::new()], vec![]).is_err());
}
