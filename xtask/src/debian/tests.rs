use super::*;

const ABSENT: Need =
    Need { purpose: "this test", probe: &["no-such-program-here"], packages: &["some-package"] };

#[test]
fn advice_names_the_program_the_purpose_and_the_packages() {
    let text = advice(&[&ABSENT], ABSENT.packages);
    assert!(text.contains("`no-such-program-here`, needed for this test"), "{text}");
    assert!(text.ends_with("as root: apt-get update && apt-get install -y some-package"), "{text}");
    let text = advice(&[&ABSENT], &["one:arm64", "two", "three:arm64"]);
    assert!(text.contains("as root: dpkg --add-architecture arm64 && apt-get update && "), "{text}");
}

#[test]
fn needs_are_probed() {
    assert!(!ABSENT.met());
    assert!(Need { purpose: "", probe: &["true"], packages: &[] }.met());
    assert!(!Need { purpose: "", probe: &["false"], packages: &[] }.met());
}

#[test]
fn what_is_missing_is_named_once() {
    const THERE: Need = Need { purpose: "", probe: &["true"], packages: &[] };
    let found: Vec<_> = missing(&[&ABSENT, &THERE, &ABSENT]).iter().map(|need| need.purpose).collect();
    assert_eq!(found, ["this test"]);
}
