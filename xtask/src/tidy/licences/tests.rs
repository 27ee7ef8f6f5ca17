use super::*;

fn policy() -> Policy {
    Policy::parse(
        "[licenses]\nallow = [\"MIT\", \"Apache-2.0\", \"Apache-2.0 WITH LLVM-exception\"]\n\
         exceptions = [{ crate = \"colours\", allow = [\"MPL-2.0\"] }]\n[bans]\n",
    )
    .unwrap()
}

fn dependency(name: &str, license: Option<&str>) -> Dependency {
    Dependency { name: name.into(), version: "1.0.0".into(), license: license.map(str::to_owned) }
}

/// Whether a crate under this licence passes.
fn passes(license: &str) -> bool {
    let mut policy = policy();
    policy.exceptions.clear();
    check(&policy, &[dependency("a", Some(license))]).is_empty()
}

#[test]
fn expressions_are_decided_by_their_operators() {
    for license in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0 OR MIT",
        "MIT/GPL-3.0",
        "GPL-3.0 / MIT",
        "MIT AND Apache-2.0",
        "(GPL-3.0 OR MIT) AND Apache-2.0",
        "GPL-3.0 AND ISC OR MIT",
        "Apache-2.0 WITH LLVM-exception",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "mit or GPL-3.0".replace("mit", "MIT").as_str(),
    ] {
        assert!(passes(license), "{license}");
    }
    for license in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "GPL-3.0 OR LGPL-3.0",
        "(MIT OR Apache-2.0) AND GPL-3.0",
        "MIT WITH LLVM-exception",
        "Apache-2.0 WITH other-exception",
        "MITRE",
    ] {
        assert!(!passes(license), "{license}");
    }
}

#[test]
fn what_cannot_be_read_does_not_pass() {
    for license in ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT Apache-2.0", "MIT AND OR MIT", "MIT WITH"] {
        assert!(!passes(license), "{license}");
    }
    assert!(!check(&policy(), &[dependency("colours", None)]).is_empty());
}

#[test]
fn an_exception_holds_for_its_crate_only_and_must_be_needed() {
    assert_eq!(check(&policy(), &[dependency("colours", Some("MPL-2.0"))]), []);
    let problems = check(&policy(), &[dependency("other", Some("MPL-2.0"))]);
    let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "other 1.0.0 is under MPL-2.0, which is not on the allow-list",
            "the licence exception of colours is not needed any more"
        ]
    );
}

#[test]
fn binding_is_as_specified() {
    let licence = |name: &str| Expression::Licence(name.to_owned());
    assert_eq!(
        Expression::parse("A OR B AND C WITH D").unwrap(),
        Expression::Any(vec![licence("A"), Expression::All(vec![licence("B"), licence("C WITH D")])])
    );
    assert_eq!(Expression::parse("((A))").unwrap(), licence("A"));
}
