use super::*;

#[test]
fn quantiles_are_values_that_came() {
    let values: Vec<Duration> = (1..=200).rev().map(Duration::from_millis).collect();
    assert_eq!(quantile(values.clone(), 0.5), Some(100.0));
    assert_eq!(quantile(values.clone(), 0.99), Some(198.0));
    assert_eq!(quantile(values[..1].to_vec(), 0.99), Some(200.0));
    assert_eq!(quantile(Vec::new(), 0.5), None);
}

#[test]
fn a_pause_counts_when_any_of_it_lies_in_the_span() {
    let begin = Instant::now();
    let at = |ms| begin + Duration::from_millis(ms);
    let answer = Answer { begin, events: vec![at(0), at(10), at(50), at(60), at(61)], tokens: 5 };
    let found = pauses(&[answer], [at(20), at(55)]);
    assert_eq!(found, [Duration::from_millis(40), Duration::from_millis(10)]);
}
