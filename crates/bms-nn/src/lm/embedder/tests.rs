use super::*;

#[test]
fn states_are_pooled() {
    let states = [1.0, 2.0, 3.0, 4.0, 8.0, 0.0];
    assert_eq!(pooled(&states, 2, Pooling::Mean), [4.0, 2.0]);
    assert_eq!(pooled(&states, 2, Pooling::Cls), [1.0, 2.0]);
    assert_eq!(pooled(&states, 2, Pooling::Last), [8.0, 0.0]);
}

#[test]
fn vectors_get_length_one() {
    let mut vector = [3.0, 4.0];
    normalise(&mut vector);
    assert_eq!(vector, [0.6, 0.8]);
    let mut zeros = [0.0, 0.0];
    normalise(&mut zeros);
    assert_eq!(zeros, [0.0, 0.0]);
}
