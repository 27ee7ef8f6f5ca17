//! Quarantine after the refusal, sealed bundles in the registry, and the audit log outside it.

use std::path::Path;
use std::sync::Arc;

use bms_bundle::seal::{ENVELOPE, Key, Rekeyed, SealOptions, To, rekey_dir, seal_to};
use bms_bundle::{Action, Bundle, Order, Policy, Revocation, SigningKey, TrustedKey};
use bms_registry::AuditChain;
use bms_wire::Code;
use serde_json::json;

use crate::bundles::{Files, Site, manifest, signed, upload};

fn order(action: Action, id: &str, key: &SigningKey) -> Order {
    Order::parse(&Order::write(action, id, "looked at it by hand", key).unwrap()).unwrap()
}

/// Has a stranger's bundle refused and returns its id in quarantine.
async fn refused(site: &Site, stranger: &SigningKey) -> String {
    let new = upload(&site.registry, &signed(manifest("digits", 1), stranger), &[]).await;
    let error = site.registry.publish("digits", new, &site.policy).await.unwrap_err();
    assert_eq!(error.code(), Code::SignerUntrusted);
    site.registry.quarantined().await.unwrap().remove(0).id
}

#[tokio::test]
async fn a_release_is_ordered_by_who_may_and_passes_the_gate_again() {
    let (site, stranger) = (Site::new().await, SigningKey::generate());
    let id = refused(&site, &stranger).await;
    let release = |key: &SigningKey, policy: Policy| {
        let (registry, order, id) = (site.registry.clone(), order(Action::Release, &id, key), id.clone());
        async move { registry.release(&id, &order, &policy).await }
    };
    let denied = release(&stranger, site.policy.clone()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!(event.action, "quarantine.order_refused");
    // An order replaces no check: while the publisher is not trusted, the gate refuses once more.
    let refused = release(&site.key, site.policy.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::SignerUntrusted);
    assert_eq!(site.registry.quarantined().await.unwrap()[0].id, id, "it is still there");
    let mut trusting = site.policy.clone();
    trusting.trust.push(TrustedKey::new("newcomer", stranger.public().clone(), vec!["digits".into()]));
    let version = release(&site.key, trusting).await.unwrap();
    assert_eq!((version.version, version.signer.as_deref()), (1, Some("newcomer")));
    assert!(site.registry.quarantined().await.unwrap().is_empty());
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!(event.action, "quarantine.released");
    assert_eq!(event.details["reason"], "looked at it by hand");
    assert_eq!(event.details["by"], "test");
    site.registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn a_purge_deletes_the_files_and_keeps_the_record() {
    let (site, stranger) = (Site::new().await, SigningKey::generate());
    let id = refused(&site, &stranger).await;
    assert!(site.registry.quarantined_bundle(&id).await.unwrap().files_kept);
    let wrong = site.registry.purge(&id, &order(Action::Release, &id, &site.key), &site.policy).await;
    assert_eq!(wrong.unwrap_err().code(), Code::PermissionDenied, "the order is another");
    site.registry.purge(&id, &order(Action::Purge, &id, &site.key), &site.policy).await.unwrap();
    assert_eq!(site.registry.quarantined_bundle(&id).await.unwrap_err().code(), Code::NotFound);
    let left = std::fs::read_dir(site.root().join("quarantine").join(&id));
    assert!(left.is_err() || left.unwrap().next().is_none(), "no file is left");
    let event = site.registry.audit_latest(1).await.unwrap().remove(0);
    assert_eq!((event.action.as_str(), event.subject.as_str()), ("quarantine.purged", "digits"));
    assert_eq!(event.details["code"], "signer_untrusted");
}

/// A sealed bundle in a folder, and who can open it.
fn sealed(site: &Site, dir: &Path) -> Arc<SigningKey> {
    let reader = Arc::new(SigningKey::generate());
    let files = signed(manifest("digits", 1), &site.key);
    let verified = site.policy.verify(Bundle::from_files(files).unwrap()).unwrap();
    let to = [To::Key(reader.public().clone())];
    let options = SealOptions { to: &to, signer: &site.key, replace: false, now_ms: 1 };
    seal_to(&verified, dir, &options).unwrap();
    reader
}

fn files(dir: &Path) -> Files {
    let bundle = Bundle::open(dir).unwrap();
    bundle.files().map(|(path, bytes)| (path.to_owned(), bytes.to_vec())).collect()
}

#[tokio::test]
async fn a_sealed_bundle_is_a_version_and_a_new_envelope_does_not_make_another() {
    let site = Site::new().await;
    let dir = site.dir.path().join("sealed");
    let reader = sealed(&site, &dir);
    let publish = |files: Files, policy: Policy| {
        let registry = site.registry.clone();
        async move {
            let new = upload(&registry, &files, &["production"]).await;
            registry.publish("digits", new, &policy).await
        }
    };
    let first = publish(files(&dir), site.policy.clone()).await.unwrap();
    assert_eq!(first.digest, Bundle::open(&dir).unwrap().digest());
    let event = site.registry.audit_latest(2).await.unwrap().remove(1);
    assert_eq!((event.action.as_str(), &event.details["scanned_here"]), ("version.published", &json!(false)));

    let mut opening = site.policy.clone();
    opening.keys.add(Key::Private(reader));
    let add = [To::Key(SigningKey::generate().public().clone())];
    rekey_dir(&dir, &opening, &Rekeyed { add: &add, ..Rekeyed::default() }, &site.key).unwrap();
    let again = publish(files(&dir), opening.clone()).await.unwrap();
    assert_eq!((again.version, &again.digest), (1, &first.digest));
    let at = site.registry.materialise("digits", 1, &site.dir.path().join("loaded")).await.unwrap();
    assert_eq!(std::fs::read(at.join(ENVELOPE)).unwrap(), std::fs::read(dir.join(ENVELOPE)).unwrap());
    opening.verify(Bundle::open(&at).unwrap()).unwrap();
    let actions: Vec<_> =
        site.registry.audit_latest(5).await.unwrap().into_iter().map(|event| event.action).collect();
    assert!(actions.contains(&"version.resealed".to_owned()), "{actions:?}");

    let mut changed = files(&dir);
    changed.iter_mut().find(|(path, _)| path == ENVELOPE).unwrap().1[100] ^= 1;
    let refused = publish(changed, site.policy.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::SignatureInvalid);
    assert_eq!(site.registry.quarantined().await.unwrap()[0].code, Code::SignatureInvalid);
    let kept = site.registry.version("digits", 1).await.unwrap();
    assert_eq!(kept.files, again.files, "what was refused changes nothing");
}

#[tokio::test]
async fn any_flipped_byte_is_refused_quarantined_and_audited() {
    let site = Site::new().await;
    let dir = site.dir.path().join("sealed");
    sealed(&site, &dir);
    for bundle in [files(&dir), signed(manifest("digits", 1), &site.key)] {
        for (number, (path, bytes)) in bundle.iter().enumerate() {
            // Eight places in each file, the first and the last byte among them.
            for place in 0..8 {
                let at = (bytes.len() - 1) * place / 7;
                let mut changed = bundle.clone();
                changed[number].1[at] ^= 1 << place;
                let new = upload(&site.registry, &changed, &[]).await;
                let refused = site.registry.publish("digits", new, &site.policy).await;
                let code = refused.expect_err("refused").code();
                let entry = site.registry.quarantined().await.unwrap().remove(0);
                assert_eq!(entry.code, code, "{path} byte {at}");
                let event = site.registry.audit_latest(1).await.unwrap().remove(0);
                assert_eq!(event.action, "bundle.refused", "{path} byte {at}");
                assert_eq!(event.details["quarantine"], entry.id);
            }
        }
    }
    assert!(site.registry.models().await.unwrap().is_empty());
    site.registry.audit_verify().await.unwrap();
}

#[tokio::test]
async fn what_a_revoked_key_signed_is_not_published() {
    let mut site = Site::new().await;
    site.publish(manifest("digits", 1), &[]).await.unwrap();
    let key = site.key.key_id().to_owned();
    site.policy.revoked.push(Revocation { key, reason: "stolen".into(), at_ms: 1 });
    let refused = site.publish(manifest("digits", 2), &[]).await.unwrap_err();
    assert_eq!(refused.code(), Code::KeyRevoked);
    assert_eq!(site.registry.quarantined().await.unwrap()[0].code, Code::KeyRevoked);
}

/// A registry whose audit log is anchored, with some events, and the key.
async fn anchored() -> (Site, SigningKey, std::path::PathBuf) {
    let site = Site::new().await;
    let path = site.dir.path().join("audit-key.pem");
    let key = SigningKey::generate();
    key.save(&path).unwrap();
    site.registry.anchor_audit(SigningKey::load(&path).unwrap()).await.unwrap();
    for n in 0..6 {
        let details = json!({ "n": n, "text": "größer als \"sonst\"", "f": 0.1 });
        site.registry.audit("test.happened", &format!("thing-{n}"), details).await.unwrap();
    }
    assert_eq!(site.registry.audit_verify().await.unwrap(), 8);
    (site, key, path)
}

#[tokio::test]
async fn an_anchored_log_is_not_forged_with_the_file() {
    let (site, _key, path) = anchored().await;
    let head = site.root().join("audit.head");
    let signed = std::fs::read(&head).unwrap();
    let last = site.registry.audit_latest(1).await.unwrap().remove(0);
    // What whoever can write the folder would write.
    let forged = format!(r#"{{"sequence":{},"hash":"{}"}}"#, last.sequence, last.hash);
    std::fs::write(&head, forged).unwrap();
    assert_eq!(site.registry.audit_verify().await.unwrap_err().code(), Code::Tampered);
    let reopened = crate::databases::open(&site.root()).await.unwrap();
    reopened.anchor_audit(SigningKey::load(&path).unwrap()).await.unwrap();
    assert_eq!(reopened.audit_verify().await.unwrap_err().code(), Code::Tampered, "after a start as well");
    for at in 0..signed.len() {
        let mut changed = signed.clone();
        changed[at] ^= 1 << (at % 8);
        std::fs::write(&head, changed).unwrap();
        assert_eq!(site.registry.audit_verify().await.unwrap_err().code(), Code::Tampered, "byte {at}");
    }
    std::fs::write(&head, &signed).unwrap();
    assert_eq!(site.registry.audit_verify().await.unwrap(), 8);
    let reopened = crate::databases::open(&site.root()).await.unwrap();
    reopened.anchor_audit(SigningKey::load(&path).unwrap()).await.unwrap();
    assert_eq!(reopened.audit_verify().await.unwrap(), 8, "anchored once");
    reopened.audit("test.later", "x", json!({})).await.unwrap();
    assert_eq!(reopened.audit_verify().await.unwrap(), 9);
}

fn follow(lines: &[String], key: &SigningKey) -> bms_wire::Result<u64> {
    let (end, events) = lines.split_last().unwrap();
    let mut chain = AuditChain::default();
    events.iter().try_for_each(|line| chain.push(line))?;
    chain.end(end, key.public())
}

#[tokio::test]
async fn an_export_holds_until_any_event_is_changed_dropped_swapped_or_cut_off() {
    let (site, key, _) = anchored().await;
    let events = site.registry.audit_events(0, 100).await.unwrap();
    let mut lines: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    lines.push(site.registry.audit_head().await.unwrap());
    assert_eq!(follow(&lines, &key).unwrap(), 8);
    assert!(follow(&lines, &SigningKey::generate()).is_err(), "another server's");
    let end = lines.len() - 1;
    for at in 0..end {
        let mut dropped = lines.clone();
        dropped.remove(at);
        assert!(follow(&dropped, &key).is_err(), "without event {at}");
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at].clone());
        assert!(follow(&doubled, &key).is_err(), "event {at} twice");
        for other in at + 1..end {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            assert!(follow(&swapped, &key).is_err(), "events {at} and {other} swapped");
        }
        let mut cut = lines[..at].to_vec();
        cut.push(lines[end].clone());
        assert!(follow(&cut, &key).is_err(), "cut off after {at}");
    }
    for (number, line) in lines.iter().enumerate() {
        for at in 0..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] ^= 1 << (at % 7);
            let Ok(text) = String::from_utf8(bytes) else { continue };
            let mut changed = lines.clone();
            changed[number] = text;
            assert!(follow(&changed, &key).is_err(), "line {number} byte {at}");
        }
    }
}
