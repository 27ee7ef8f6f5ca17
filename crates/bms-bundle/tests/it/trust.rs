//! Whom the gate believes: times, revocations, rotations, approvals.

use std::fs;
use std::path::{Path, PathBuf};

use bms_bundle::{
    APPROVALS, Action, ApprovalRule, Bundle, Format, Order, Policy, Revocation, Right, Rotation, SigningKey,
    TrustedKey, approve_dir,
};
use bms_wire::Code;
use tempfile::TempDir;

use crate::samples::draft;

const MADE: i64 = 1_700_000_000_000;

fn bundle(key: &SigningKey) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bundle");
    draft().write_signed(&path, key).unwrap();
    (dir, path)
}

fn code(policy: &Policy, path: &Path) -> Option<Code> {
    // What is written here and read back is the same policy.
    assert_eq!(Policy::from_toml(&policy.to_toml().unwrap()).unwrap(), *policy);
    let bundle = Bundle::open(path).unwrap();
    let code = policy.verify(bundle.clone()).err().map(|rejected| rejected.code);
    assert_eq!(policy.check_trust(&bundle).err().map(|e| e.code()), code, "a loaded one is judged the same");
    code
}

#[test]
fn a_key_is_trusted_in_its_time_only() {
    let key = SigningKey::generate();
    let (_dir, path) = bundle(&key);
    let with = |from: Option<i64>, to: Option<i64>| {
        let mut policy = Policy::trusting(key.public(), "me");
        (policy.trust[0].not_before_ms, policy.trust[0].not_after_ms) = (from, to);
        policy
    };
    assert_eq!(code(&with(Some(MADE), Some(MADE + 1000)), &path), None);
    assert_eq!(code(&with(Some(MADE + 1000), None), &path), Some(Code::KeyRevoked));
    assert_eq!(code(&with(None, Some(MADE)), &path), Some(Code::KeyRevoked));
    // What was made in time stays good, but is not published any more once the key's time is over.
    let over = with(None, Some(MADE + 1000)).admit(&Bundle::open(&path).unwrap()).unwrap_err();
    assert_eq!(over.code, Code::KeyRevoked);
    assert!(with(None, None).admit(&Bundle::open(&path).unwrap()).unwrap().opened);
}

#[test]
fn a_revoked_key_is_refused_in_every_mode() {
    let key = SigningKey::generate();
    let (_dir, path) = bundle(&key);
    let revoked =
        Revocation { key: key.key_id().to_owned(), reason: "laptop stolen".to_owned(), at_ms: MADE };
    for policy in [Policy::trusting(key.public(), "me"), Policy::development()] {
        let policy = Policy { revoked: vec![revoked.clone()], ..policy };
        assert_eq!(code(&policy, &path), Some(Code::KeyRevoked));
        let refusal = policy.verify(Bundle::open(&path).unwrap()).unwrap_err();
        assert!(refusal.error.message().contains("laptop stolen"), "{refusal}");
    }
}

#[test]
fn a_key_publishes_its_formats_and_within_its_rights_only() {
    let key = SigningKey::generate();
    let (_dir, path) = bundle(&key);
    let mut policy = Policy::trusting(key.public(), "me");
    policy.trust[0].formats = Some(vec![Format::Onnx, Format::Json]);
    assert_eq!(code(&policy, &path), Some(Code::FormatDenied), "there is a text file");
    policy.trust[0].formats = Some(vec![Format::Onnx, Format::Json, Format::Text]);
    assert_eq!(code(&policy, &path), None);
    policy.trust[0].may = vec![Right::Approve, Right::Release, Right::Lease];
    assert_eq!(code(&policy, &path), Some(Code::SignerUntrusted));
}

#[test]
fn a_key_hands_over_to_its_successor() {
    let (old, new, other) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    let mut policy = Policy::trusting(old.public(), "me");
    let rotation = Rotation::parse(&Rotation::write(&old, new.public()).unwrap()).unwrap();
    let added = policy.rotate(&rotation, 1000, MADE + 5000).unwrap();
    assert_eq!((added.len(), added[0].publisher.as_str()), (1, "me"));
    let (_dir, path) = bundle(&new);
    assert_eq!(code(&policy, &path), None);
    let (_dir, path) = bundle(&old);
    assert_eq!(code(&policy, &path), None, "the old key's time is not over for what it signed before");
    assert_eq!(policy.trust[0].not_after_ms, Some(MADE + 6000));
    assert_eq!(policy.rotate(&rotation, 1000, MADE).unwrap_err().code(), Code::Conflict);

    let mut policy = Policy::trusting(old.public(), "me");
    let forged = Rotation::parse(&Rotation::write(&other, new.public()).unwrap()).unwrap();
    assert_eq!(policy.rotate(&forged, 0, MADE).unwrap_err().code(), Code::SignerUntrusted);
    policy.revoked.push(Revocation { key: old.key_id().to_owned(), reason: String::new(), at_ms: 0 });
    assert_eq!(policy.rotate(&rotation, 0, MADE).unwrap_err().code(), Code::KeyRevoked);
    assert!(Rotation::write(&old, old.public()).is_err());
}

#[test]
fn enough_others_must_approve() {
    let keys: Vec<_> = (0..3).map(|_| SigningKey::generate()).collect();
    let (_dir, path) = bundle(&keys[0]);
    let mut policy = Policy::trusting(keys[0].public(), "author");
    for (key, name) in keys[1..].iter().zip(["second", "third"]) {
        policy.trust.push(TrustedKey::new(name, key.public().clone(), vec!["*".to_owned()]));
    }
    policy.approvals = vec![
        ApprovalRule { models: vec!["other".to_owned()], required: 9 },
        ApprovalRule { models: vec!["dig*".to_owned()], required: 2 },
    ];
    assert_eq!(code(&policy, &path), Some(Code::ApprovalMissing));
    let digest = Bundle::open(&path).unwrap().digest();
    approve_dir(&path, &keys[0]).unwrap();
    approve_dir(&path, &keys[1]).unwrap();
    approve_dir(&path, &SigningKey::generate()).unwrap();
    assert_eq!(code(&policy, &path), Some(Code::ApprovalMissing), "one's own and a stranger's do not count");
    approve_dir(&path, &keys[2]).unwrap();
    assert_eq!(code(&policy, &path), None);
    let verified = policy.verify(Bundle::open(&path).unwrap()).unwrap();
    let by: Vec<_> = verified.approvals().iter().map(|approval| approval.publisher.as_str()).collect();
    assert_eq!((by.len(), by.contains(&"second"), by.contains(&"third")), (2, true, true));
    assert_eq!(verified.digest(), digest, "approving changes nothing");

    let approval = path.join(APPROVALS).join(format!("{}.sig", keys[2].key_id()));
    let good = fs::read(&approval).unwrap();
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&approval, changed).unwrap();
        assert_eq!(code(&policy, &path), Some(Code::SignatureInvalid), "byte {at}");
    }
    fs::write(&approval, &good).unwrap();
    fs::write(path.join(APPROVALS).join("notes.txt"), "x").unwrap();
    assert_eq!(code(&policy, &path), Some(Code::Tampered), "something else among them");
    fs::remove_file(path.join(APPROVALS).join("notes.txt")).unwrap();

    // One publisher with two keys is one publisher.
    policy.trust[2].publisher = "second".to_owned();
    assert_eq!(code(&policy, &path), Some(Code::ApprovalMissing));
}

#[test]
fn an_approval_is_of_these_files_only() {
    let keys: Vec<_> = (0..2).map(|_| SigningKey::generate()).collect();
    let (_dir, path) = bundle(&keys[0]);
    let (_other_dir, other) = bundle(&keys[0]);
    fs::write(other.join("bundle.json"), fs::read_to_string(other.join("bundle.json")).unwrap() + " ")
        .unwrap();
    approve_dir(&other, &keys[1]).unwrap();
    fs::create_dir(path.join(APPROVALS)).unwrap();
    let name = format!("{}.sig", keys[1].key_id());
    fs::copy(other.join(APPROVALS).join(&name), path.join(APPROVALS).join(&name)).unwrap();
    let mut policy = Policy::trusting(keys[0].public(), "author");
    policy.trust.push(TrustedKey::new("second", keys[1].public().clone(), vec!["*".to_owned()]));
    assert_eq!(code(&policy, &path), Some(Code::Tampered));
}

#[test]
fn orders_count_once_from_those_who_may_and_soon() {
    let (key, other) = (SigningKey::generate(), SigningKey::generate());
    let mut policy = Policy::trusting(key.public(), "me");
    policy.trust.push(TrustedKey::new("publisher", other.public().clone(), vec!["*".to_owned()]));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let check = |key: &SigningKey, policy: &Policy, id: &str, at: i64| {
        let order = Order::parse(&Order::write(Action::Release, "q1", "looked at it", key).unwrap()).unwrap();
        policy.check_order(&order, (Action::Release, id), "digits", at).map_err(|e| e.code())
    };
    assert_eq!(check(&key, &policy, "q1", now).unwrap().publisher, "me");
    assert_eq!(check(&other, &policy, "q1", now), Err(Code::PermissionDenied), "may not release");
    assert_eq!(check(&key, &policy, "q2", now), Err(Code::PermissionDenied), "about something else");
    assert_eq!(check(&key, &policy, "q1", now + 3_600_000), Err(Code::PermissionDenied), "too old");
    let order = Order::parse(&Order::write(Action::Purge, "q1", "x", &key).unwrap()).unwrap();
    assert!(policy.check_order(&order, (Action::Release, "q1"), "digits", now).is_err());
    assert!(Order::write(Action::Release, "q1", "  ", &key).is_err(), "no reason");
    policy.revoked.push(Revocation { key: key.key_id().to_owned(), reason: "x".to_owned(), at_ms: 0 });
    assert_eq!(check(&key, &policy, "q1", now), Err(Code::KeyRevoked));
}
