use super::*;

const ABSENT: Need =
    Need { purpose: "this test", probe: &["no-such-program-here"], packages: &["some-package"] };

#[test]
fn advice_names_the_program_the_purpose_and_the_packages() {
    let text = advice(&[&ABSENT], ABSENT.packages);
    assert!(text.contains("`no-such-program-here`, needed for this test"), "{text}");
    assert!(text.ends_with("apt-get install -y some-package"), "{text}");
}

#[test]
fn needs_are_probed() {
    assert!(!ABSENT.met());
    assert!(Need { purpose: "", probe: &["true"], packages: &[] }.met());
    assert!(!Need { purpose: "", probe: &["false"], packages: &[] }.met());
}
