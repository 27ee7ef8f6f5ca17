use std::time::Duration;

use bms_wire::{Code, Error};

use super::Link;

#[test]
fn a_centre_that_refuses_is_not_one_that_is_away() {
    let link = Link::new(Duration::from_secs(60));
    assert!(!link.is_up() && link.problem().is_none(), "nothing is known");
    link.lost(&Error::new(Code::Unavailable, "connection refused").hint("Try again."));
    assert_eq!(link.problem().as_deref(), Some("the centre cannot be reached: connection refused."));
    link.lost(&Error::new(Code::Unauthenticated, "this needs a key").hint("Send one."));
    assert_eq!(link.problem().as_deref(), Some("the centre refuses this node: this needs a key. Send one."));
    link.heard();
    assert!(link.is_up() && link.problem().is_none());
    link.lost(&Error::new(Code::PermissionDenied, "the key is for role user"));
    assert!(!link.is_up() && link.problem().is_some());
}
