use super::*;

#[test]
fn mix_is_splitmix64() {
    // First outputs of the reference implementation for the seed 1234567.
    assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    assert_eq!(mix(1_234_567_u64.wrapping_add(0x9e37_79b9_7f4a_7c15)), 3_203_168_211_198_807_973);
}

#[test]
fn numbers_are_uniform_and_differ_by_every_argument() {
    let mean = (0..10_000).map(|place| uniform(7, 0, place)).sum::<f64>() / 10_000.0;
    assert!((mean - 0.5).abs() < 0.01, "{mean}");
    assert_eq!(uniform(1, 2, 3), uniform(1, 2, 3));
    let differ = [uniform(1, 2, 3), uniform(2, 2, 3), uniform(1, 3, 3), uniform(1, 2, 4), uniform(1, 3, 2)];
    for (i, a) in differ.iter().enumerate() {
        assert!((0.0..1.0).contains(a));
        assert!(differ[i + 1..].iter().all(|b| a != b));
    }
}
