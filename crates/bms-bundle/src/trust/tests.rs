use super::time;

#[test]
fn dates_are_read_and_written() {
    let check = |text: &str, ms: i64, canonical: &str| {
        assert_eq!(time::parse(text).unwrap(), ms, "{text}");
        assert_eq!(time::to_text(ms), canonical, "{ms}");
    };
    check("1970-01-01", 0, "1970-01-01T00:00:00Z");
    check("2026-01-01T00:00:00Z", 1_767_225_600_000, "2026-01-01T00:00:00Z");
    check("2024-02-29T23:59:59Z", 1_709_251_199_000, "2024-02-29T23:59:59Z");
    check("2024-03-01T01:30:00+01:30", 1_709_251_200_000, "2024-03-01T00:00:00Z");
    check("2000-12-31", 978_220_800_000, "2000-12-31T00:00:00Z");
    check("2026-01-01T00:00:00.25Z", 1_767_225_600_250, "2026-01-01T00:00:00Z");
    check("0000-01-01", -62_167_219_200_000, "0000-01-01T00:00:00Z");
    check("9999-12-31T23:59:59Z", 253_402_300_799_000, "9999-12-31T23:59:59Z");
    // The last two are outside the years that can be written once their offset is taken off.
    for wrong in
        ["", "tomorrow", "12:00:00", "2026-13-01", "0000-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"]
    {
        assert!(time::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn every_day_of_four_centuries_is_read_back() {
    for day in -1000..146_097_i64 {
        let ms = day.max(0) * 24 * 60 * 60 * 1000 + day.rem_euclid(1000);
        assert_eq!(time::from_toml(&time::to_toml(ms)), Some(ms));
    }
}
