use super::*;

#[test]
fn the_middle_of_samples() {
    assert_eq!(Samples(vec![3.0, 1.0, 2.0]).median(), Some(2.0));
    assert_eq!(Samples(vec![4.0, 1.0]).text(), "2.5 (1.0..4.0)");
    assert_eq!(Samples::default().median(), None);
    assert_eq!(Samples::default().json(), Value::Null);
}

#[test]
fn instruction_sets_are_this_machines() {
    assert_eq!(isa("scalar"), Ok(Isa::Scalar));
    let refused = isa("avx9000").unwrap_err();
    assert!(refused.contains("scalar"), "{refused}");
}
