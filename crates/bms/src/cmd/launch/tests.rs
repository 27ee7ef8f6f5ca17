use super::*;

#[test]
fn times_are_read_as_slurm_writes_them() {
    let seconds = |text| walltime(text).map(|time| time.as_secs());
    let cases = [
        ("01:00:00", 3600),
        ("1-12:00:00", 129_600),
        ("10:30", 630),
        ("90m", 5400),
        ("30s", 30),
        ("2d", 172_800),
    ];
    for (text, expected) in cases {
        assert_eq!(seconds(text), Ok(expected), "{text}");
    }
    for text in ["", "90", "1h30", "-1:00", "99999999999999999999s", "1-2", "é", "1:2:3:4", "m"] {
        assert!(seconds(text).is_err(), "{text}");
    }
}

#[test]
fn sizes_have_a_unit() {
    assert_eq!(mebibytes("8G"), Ok(8192));
    assert_eq!(mebibytes("512M"), Ok(512));
    assert_eq!(mebibytes("8GiB"), Ok(8192));
    for text in ["", "8", "0G", "-1G", "G", "99999999999999999T", "8é"] {
        assert!(mebibytes(text).is_err(), "{text}");
    }
}
