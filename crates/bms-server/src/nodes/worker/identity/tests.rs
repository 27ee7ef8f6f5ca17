use bms_wire::Code;
use zeroize::Zeroizing;

use super::{Kept, check_is_good};

#[test]
fn a_worker_that_was_away_for_too_long_is_told_what_to_do() {
    let day = 24 * 3600 * 1000;
    let mut kept = Kept {
        name: "w".to_owned(),
        centre: "a:1".to_owned(),
        others: Vec::new(),
        key: Zeroizing::new(String::new()),
        certificate: String::new(),
        authority: String::new(),
        certified_ms: Some(1000),
        certified_seconds: 24 * 3600,
    };
    assert!(check_is_good(&kept, day).is_ok());
    // A clock that was set back is no reason.
    assert!(check_is_good(&kept, 0).is_ok());
    let error = check_is_good(&kept, day + 1000).unwrap_err();
    assert_eq!(error.code(), Code::PermissionDenied);
    assert!(error.message().contains("24 hours"), "{error}");
    assert!(error.body().hint.unwrap().contains("fresh token"));
    kept.certified_ms = None;
    assert!(check_is_good(&kept, 9 * day).is_ok(), "of a file that does not say the centre decides");
}
