use super::{CONNECTIONS_MAX, CONNECTIONS_MIN, connections_max, fitting};

#[test]
fn connections_fit_the_files() {
    assert_eq!(fitting(0), CONNECTIONS_MIN);
    assert_eq!(fitting(1024), 384);
    assert_eq!(fitting(u64::MAX), CONNECTIONS_MAX);
    assert!((CONNECTIONS_MIN..=CONNECTIONS_MAX).contains(&connections_max()));
}
