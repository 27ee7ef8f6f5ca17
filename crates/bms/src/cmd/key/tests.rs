use super::time;

#[test]
fn times_have_a_unit() {
    assert_eq!(time("90d"), Ok(90 * 24 * 3600));
    assert_eq!((time("12h"), time("30m"), time("5s"), time("0")), (Ok(43_200), Ok(1800), Ok(5), Ok(0)));
    for bad in ["", "d", "90", "-1d", "1w", "99999999999999999999d", "9999999999999999999d"] {
        assert!(time(bad).is_err(), "{bad}");
    }
}
