use super::*;

#[test]
fn times_sizes_and_moments_are_read_with_their_units() {
    assert_eq!(time("3600s"), Ok(Duration::from_secs(3600)));
    assert_eq!(time("90"), Ok(Duration::from_secs(90)));
    assert_eq!(time("2h"), Ok(Duration::from_secs(7200)));
    assert_eq!(size("8GiB"), Ok(8 << 30));
    assert_eq!(size("1024"), Ok(1024));
    for wrong in ["", "s", "-1s", "1w", "99999999999d"] {
        assert!(time(wrong).is_err(), "{wrong}");
    }
    for wrong in ["", "0", "8GB", "-1", "99999999TiB"] {
        assert!(size(wrong).is_err(), "{wrong}");
    }
    // `date -u -d 2027-01-31T18:00:00Z +%s`, and of a leap day.
    assert_eq!(utc_seconds("2027-01-31T18:00:00Z"), Some(1_801_418_400));
    assert_eq!(utc_seconds("2028-02-29T00:00:00Z"), Some(1_835_395_200));
    assert_eq!(utc_seconds("1970-01-01T00:00:00Z"), Some(0));
    for wrong in ["2027-01-31", "2027-01-31T18:00:00", "2027-13-01T00:00:00Z", "x-y-zT1:2:3Z"] {
        assert_eq!(utc_seconds(wrong), None, "{wrong}");
    }
    assert!(label("gpu").is_err());
    assert_eq!(label("gpu=no"), Ok(("gpu".into(), "no".into())));
}
