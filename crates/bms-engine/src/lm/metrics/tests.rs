use super::*;

#[test]
fn durations_are_counted_where_they_belong() {
    let mut histogram = Histogram::default();
    assert_eq!(histogram.quantile(0.5), 0.0);
    for ms in [1, 2, 2, 1000, 1_000_000] {
        histogram.add(Duration::from_millis(ms));
    }
    assert_eq!(histogram.count(), 5);
    assert_eq!(histogram.counts[0], 1);
    assert_eq!(histogram.counts[1], 2);
    assert_eq!(histogram.quantile(0.5), 0.0025);
    assert_eq!(histogram.quantile(0.8), 1.0);
    assert_eq!(histogram.quantile(1.0), f64::INFINITY);
    assert!((histogram.sum - 1001.005).abs() < 1e-9);
}
