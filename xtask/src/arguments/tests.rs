use super::*;

fn arguments(text: &str) -> Arguments {
    Arguments::new(text.split_whitespace().map(str::to_owned))
}

#[test]
fn flags_and_values_are_taken_out() {
    let mut a = arguments("ci --step fmt --keep-going --step tidy");
    assert_eq!(a.command().as_deref(), Some("ci"));
    assert!(a.flag("--keep-going"));
    assert!(!a.flag("--keep-going"));
    assert_eq!(a.values("--step").unwrap(), ["fmt", "tidy"]);
    a.finish().unwrap();
}

#[test]
fn wrong_use_is_an_error() {
    assert!(arguments("--step").values("--step").is_err());
    assert!(arguments("--step --list").values("--step").is_err());
    assert!(arguments("--group a --group b").value("--group").is_err());
    assert!(arguments("extra").finish().is_err());
}
