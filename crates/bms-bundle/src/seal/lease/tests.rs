use std::sync::Arc;

use bms_wire::Code;

use super::{Clock, DAY_MS, Lease, LeasedKey};
use crate::Severity;
use crate::SigningKey;
use crate::seal::cipher::SealKeys;
use crate::seal::{DataKey, ScanRecord, SealInfo};

const NOW: i64 = 1_800_000_000_000;

fn info(key: &DataKey) -> SealInfo {
    let scan = ScanRecord { scanner: "test".into(), at_ms: 0, files: 1, deny: Severity::Medium, findings: 0 };
    SealInfo::new(&[1; 16], &"d".repeat(64), SealKeys::derive(key, &[1; 16]).commitment(), scan)
}

fn lease(key: &DataKey, node: &SigningKey, centre: &SigningKey) -> Vec<u8> {
    let times = (NOW, NOW + DAY_MS, NOW + 3 * DAY_MS);
    Lease::issue((&info(key), "digits", key), ("edge-1", node.public()), times, centre).unwrap()
}

#[test]
fn a_lease_holds_in_its_time_only_and_for_its_node() {
    let dir = tempfile::tempdir().unwrap();
    let (node, centre) = (Arc::new(SigningKey::generate()), SigningKey::generate());
    let key = DataKey::generate().unwrap();
    let lease = Lease::parse(&lease(&key, &node, &centre)).unwrap();
    lease.verify(centre.public()).unwrap();
    assert!(lease.verify(node.public()).is_err());
    let leased = LeasedKey::new(lease.clone(), node.clone(), &dir.path().join("clock")).unwrap();
    let check = |at: i64| leased.check_at(at).map_err(|e| e.code());
    assert_eq!(check(NOW), Err(Code::LeaseExpired), "not good yet");
    check(NOW + DAY_MS).unwrap();
    check(NOW + 3 * DAY_MS - 1000).unwrap();
    assert_eq!(check(NOW + 3 * DAY_MS), Err(Code::LeaseExpired), "over");
    assert_eq!(check(NOW + DAY_MS), Err(Code::LeaseExpired), "the clock was set back");

    let recipient = &lease.terms().recipient;
    let opened = recipient.open_with_key(&[1; 16], &node).unwrap().unwrap();
    assert_eq!(opened.expose(), key.expose());
    assert!(recipient.open_with_key(&[1; 16], &centre).unwrap().is_none());
}

#[test]
fn a_clock_that_is_set_back_is_noticed_after_a_restart_too() {
    let dir = tempfile::tempdir().unwrap();
    let (path, key) = (dir.path().join("clock"), SigningKey::generate());
    Clock::open(&path, &key).unwrap().now(NOW).unwrap();
    let clock = Clock::open(&path, &key).unwrap();
    assert!(clock.now(NOW - 60_000).unwrap() >= NOW, "a minute is within the tolerance and changes nothing");
    assert_eq!(clock.now(NOW - DAY_MS).unwrap_err().code(), Code::LeaseExpired);
    clock.now(NOW + DAY_MS).unwrap();
    assert_eq!(Clock::open(&path, &key).unwrap().now(NOW).unwrap_err().code(), Code::LeaseExpired);

    let good = std::fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert_eq!(Clock::open(&path, &key).unwrap_err().code(), Code::Tampered, "byte {at}");
    }
    std::fs::write(&path, &good).unwrap();
    assert_eq!(
        Clock::open(&path, &SigningKey::generate()).unwrap_err().code(),
        Code::Tampered,
        "another's clock"
    );
}

#[test]
fn any_flipped_byte_of_a_lease_is_refused() {
    let (node, centre) = (SigningKey::generate(), SigningKey::generate());
    let good = lease(&DataKey::generate().unwrap(), &node, &centre);
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        let read = Lease::parse(&changed).and_then(|lease| lease.verify(centre.public()));
        assert_eq!(read.unwrap_err().code(), Code::SignatureInvalid, "byte {at}");
    }
}

#[test]
fn times_that_make_no_sense_are_not_leased() {
    let (node, centre) = (SigningKey::generate(), SigningKey::generate());
    let key = DataKey::generate().unwrap();
    for times in [(NOW, NOW, NOW), (NOW, NOW + 1, NOW), (NOW, NOW, NOW + 4000 * DAY_MS), (-1, 0, 1)] {
        let issued = Lease::issue((&info(&key), "digits", &key), ("edge-1", node.public()), times, &centre);
        assert_eq!(issued.unwrap_err().code(), Code::InvalidRequest);
    }
}
