use super::*;

#[test]
fn softmax_sums_to_one_and_does_not_overflow() {
    let probabilities = softmax(&[1.0, 2.0, 3.0]);
    let expected = [0.090_030_57, 0.244_728_48, 0.665_240_94];
    assert!(probabilities.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{probabilities:?}");
    assert_eq!(softmax(&[1e30, 0.0]), [1.0, 0.0]);
}
