//! Keys of callers: made once, kept as a hash, ended for good; and what they used.

use bms_registry::{GivenKey, GivenOutcome, KEY_ID_CHARS, KeyUse};
use bms_wire::Code;
use bms_wire::api::{NewKey, Role, SetKey};

use crate::databases::{edit, open};

fn new(name: &str, role: Role) -> NewKey {
    NewKey { name: name.to_owned(), role, limits: SetKey::default() }
}

#[tokio::test]
async fn a_secret_is_given_once_and_kept_as_a_hash() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let refused = registry.create_key(&new("a", Role::User), "me").await.unwrap_err();
    assert_eq!(refused.code(), Code::Conflict, "the first is an admin's: {refused}");
    let admin = registry.create_key(&new("root", Role::Admin), "me").await.unwrap();
    assert!(admin.secret.starts_with(&admin.key.id) && admin.key.id.len() == KEY_ID_CHARS);
    let limits = SetKey {
        requests_per_minute: Some(5),
        models: Some(vec!["digits".into()]),
        expires_seconds: Some(60),
        ..SetKey::default()
    };
    let user = registry.create_key(&NewKey { limits, ..new("a", Role::User) }, "me").await.unwrap();
    assert_ne!(user.secret, admin.secret);
    assert_eq!(user.key.expires_ms, Some(user.key.created_ms + 60_000));
    let (_, stored) = registry.stored_keys().await.unwrap();
    let kept = stored.iter().find(|stored| stored.key.id == user.key.id).unwrap();
    assert_eq!(kept.hash, blake3::hash(user.secret.as_bytes()));
    assert_eq!(kept.key, user.key);
    let events = registry.audit_events(0, 100).await.unwrap();
    let said = serde_json::to_string(&events).unwrap();
    let random = &user.secret[KEY_ID_CHARS + 1..];
    assert!(said.contains(&user.key.id) && !said.contains(random), "{said}");
    assert!(!format!("{user:?} {kept:?}").contains(random));
    let again = registry.create_key(&new("a", Role::Edge), "me").await.unwrap_err();
    assert_eq!(again.code(), Code::Conflict, "{again}");
    for bad in ["", "A b", "../x"] {
        let refused = registry.create_key(&new(bad, Role::User), "me").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{refused}");
    }
}

#[tokio::test]
async fn keys_change_and_end_and_every_change_shows() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, other) = (open(dir.path()).await.unwrap(), open(dir.path()).await.unwrap());
    let mut seen = vec![other.keys_revision().await.unwrap()];
    registry.create_key(&new("root", Role::Admin), "me").await.unwrap();
    seen.push(other.keys_revision().await.unwrap());
    registry.create_key(&new("a", Role::User), "me").await.unwrap();
    seen.push(other.keys_revision().await.unwrap());
    let set = SetKey { tokens_per_day: Some(9), concurrent: Some(2), ..SetKey::default() };
    registry.set_key("a", &set, "me").await.unwrap();
    let set = SetKey { tokens_per_day: Some(0), ..SetKey::default() };
    let key = registry.set_key("a", &set, "me").await.unwrap();
    assert_eq!((key.limits.tokens_per_day, key.limits.concurrent), (None, Some(2)));
    seen.push(other.keys_revision().await.unwrap());
    let refused = registry.revoke_key("root", "me").await.unwrap_err();
    assert_eq!(refused.code(), Code::Conflict, "{refused}");
    let expiring = SetKey { expires_seconds: Some(5), ..SetKey::default() };
    assert_eq!(registry.set_key("root", &expiring, "me").await.unwrap_err().code(), Code::Conflict);
    assert!(registry.revoke_key("a", "me").await.unwrap().revoked_ms.is_some());
    seen.push(other.keys_revision().await.unwrap());
    assert_eq!(registry.revoke_key("a", "me").await.unwrap_err().code(), Code::NotFound);
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "{seen:?}");
    assert_eq!(other.stored_keys().await.unwrap().1.len(), 1);
    let listed = other.keys().await.unwrap();
    assert_eq!(listed.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["root", "a"]);
    registry.create_key(&new("a", Role::Edge), "me").await.unwrap();
    let actions: Vec<_> = registry.audit_events(0, 100).await.unwrap();
    let of = |action: &str| actions.iter().filter(|event| event.action == action).count();
    assert_eq!((of("key.created"), of("key.changed"), of("key.revoked")), (3, 2, 1));
}

#[tokio::test]
async fn the_first_admin_is_made_once_and_again_when_it_has_expired() {
    let dir = tempfile::tempdir().unwrap();
    let (registry, other) = (open(dir.path()).await.unwrap(), open(dir.path()).await.unwrap());
    let (one, two) = tokio::join!(registry.create_first_admin(), other.create_first_admin());
    let made: Vec<_> = [one.unwrap(), two.unwrap()].into_iter().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(registry.create_first_admin().await.unwrap(), None);
    edit(dir.path(), "UPDATE api_keys SET expires_ms = 1").await;
    let next = registry.create_first_admin().await.unwrap().unwrap();
    assert!(next.key.name.starts_with("admin-"), "{next:?}");
}

#[tokio::test]
async fn uses_of_all_processes_are_summed_and_written_twice_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let key = registry.create_key(&new("root", Role::Admin), "me").await.unwrap().key;
    let day = registry.key_uses("one").await.unwrap().day;
    let used = |requests, tokens, day| KeyUse { key: key.id.clone(), day, requests, tokens };
    registry.flush_key_uses("one", &[used(3, 30, day), used(100, 100, day - 1)]).await.unwrap();
    registry.flush_key_uses("one", &[used(4, 40, day)]).await.unwrap();
    registry.flush_key_uses("two", &[used(10, 5, day)]).await.unwrap();
    let seen = registry.key_uses("two").await.unwrap();
    assert_eq!((seen.others[&key.id], seen.replicas), ((4, 40), 2));
    let seen = registry.key_uses("three").await.unwrap();
    assert_eq!((seen.others[&key.id], seen.replicas), ((14, 45), 3));
    let listed = registry.keys().await.unwrap();
    assert_eq!((listed[0].requests_today, listed[0].tokens_today), (14, 45));
    registry.leave_key_uses("one").await.unwrap();
    assert_eq!(registry.key_uses("three").await.unwrap().replicas, 2);
    assert_eq!(registry.key_uses("three").await.unwrap().others[&key.id], (14, 45), "what was used stays");
}

/// A secret whose identifier is this digit ten times.
fn secret(id: char, rest: char) -> String {
    format!("bms_{}_{}", id.to_string().repeat(10), rest.to_string().repeat(64))
}

fn given(name: &str, role: Role, secret: &str) -> GivenKey {
    GivenKey::new(name, role, secret).unwrap()
}

#[tokio::test]
async fn keys_that_are_given_are_made_once_by_whoever_starts_first() {
    use GivenOutcome::{Known, Made};
    let dir = tempfile::tempdir().unwrap();
    let (registry, other) = (open(dir.path()).await.unwrap(), open(dir.path()).await.unwrap());
    let user = given("shop", Role::User, &secret('a', '1'));
    let refused = registry.give_keys(std::slice::from_ref(&user), "start").await.unwrap_err();
    assert_eq!(refused.code(), Code::Conflict, "{refused}");
    assert!(!registry.has_admin_key().await.unwrap());
    // The admin's is made first, wherever it stands.
    let keys = [user, given("root", Role::Admin, &secret('b', '2'))];
    let (one, two) = tokio::join!(registry.give_keys(&keys, "start"), other.give_keys(&keys, "start"));
    let mut outcomes = [one.unwrap(), two.unwrap()];
    outcomes.sort_by_key(|outcomes| outcomes[0] == Made);
    assert_eq!(outcomes, [[Known, Known], [Made, Made]]);
    assert!(other.has_admin_key().await.unwrap());
    assert_eq!(registry.create_first_admin().await.unwrap(), None);
    let (_, stored) = other.stored_keys().await.unwrap();
    let hash = |name: &str| stored.iter().find(|stored| stored.key.name == name).unwrap().hash;
    assert_eq!(hash("root"), blake3::hash(secret('b', '2').as_bytes()));
    let said = serde_json::to_string(&registry.audit_events(0, 100).await.unwrap()).unwrap();
    assert!(said.contains("bms_bbbbbbbbbb") && !said.contains(&"2".repeat(64)), "{said}");
}

#[tokio::test]
async fn another_secret_takes_the_place_of_a_given_key_and_what_was_revoked_stays_so() {
    use GivenOutcome::{Ended, Known, Replaced};
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let old = [given("root", Role::Admin, &secret('a', '1')), given("shop", Role::User, &secret('b', '2'))];
    registry.give_keys(&old, "start").await.unwrap();
    let limits = SetKey { requests_per_minute: Some(7), models: Some(vec!["m".into()]), ..SetKey::default() };
    let limited = registry.set_key("shop", &limits, "me").await.unwrap().limits;
    let new = [given("root", Role::Admin, &secret('c', '3')), given("shop", Role::User, &secret('d', '4'))];
    assert_eq!(registry.give_keys(&new, "start").await.unwrap(), [Replaced, Replaced]);
    assert_eq!(registry.give_keys(&new, "start").await.unwrap(), [Known, Known]);
    assert_eq!(
        registry.give_keys(&old, "start").await.unwrap(),
        [Ended, Ended],
        "an old server started anew"
    );
    let live: Vec<_> = registry.stored_keys().await.unwrap().1.into_iter().map(|stored| stored.key).collect();
    assert_eq!(live.len(), 2);
    assert_eq!(live.iter().find(|key| key.name == "shop").unwrap().limits, limited);
    registry.revoke_key("shop", "me").await.unwrap();
    assert_eq!(registry.give_keys(&new, "start").await.unwrap(), [Known, Ended]);
    edit(dir.path(), "UPDATE api_keys SET expires_ms = 1").await;
    assert_eq!(registry.give_keys(&new[..1], "start").await.unwrap(), [Ended]);
    assert!(!registry.has_admin_key().await.unwrap());
}

#[tokio::test]
async fn a_given_key_that_contradicts_another_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    registry.give_keys(&[given("root", Role::Admin, &secret('a', '1'))], "start").await.unwrap();
    let revision = registry.keys_revision().await.unwrap();
    let good = given("shop", Role::User, &secret('b', '2'));
    for (bad, says) in [
        (given("boss", Role::Admin, &secret('a', '1')), "`root`, for role admin"),
        (given("root", Role::User, &secret('a', '1')), "`root`, for role admin"),
        (given("root", Role::Admin, &secret('a', '9')), "begins with bms_aaaaaaaaaa"),
        (given("root", Role::User, &secret('c', '3')), "was given for role user"),
    ] {
        let refused = registry.give_keys(&[good.clone(), bad], "start").await.unwrap_err();
        assert_eq!(refused.code(), Code::Conflict);
        assert!(refused.to_string().contains(says), "{refused}");
        assert_eq!(registry.keys_revision().await.unwrap(), revision);
    }
    for (name, text) in [("root", "bms_short"), ("R oot", secret('a', '1').as_str())] {
        assert_eq!(GivenKey::new(name, Role::Admin, text).unwrap_err().code(), Code::InvalidRequest);
    }
}
