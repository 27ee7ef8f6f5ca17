//! Keys of callers: made once, kept as a hash, ended for good; and what they used.

use bms_registry::{GivenKey, GivenOutcome, KEY_ID_CHARS, KeyUse, KeyUses, Spent};
use bms_wire::api::{KeyUsage, NewKey, Quota, Role, SetKey};
use bms_wire::{Code, limits};

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

/// What a process counted, of which it holds nothing more.
fn used(key: &str, model: &str, day: i64, (requests, tokens): (u64, u64)) -> KeyUse {
    let spent = |used| Spent { used, held: 0 };
    KeyUse {
        key: key.to_owned(),
        model: model.to_owned(),
        day,
        requests: spent(requests),
        tokens: spent(tokens),
    }
}

fn heard(uses: &KeyUses, key: &str, model: &str) -> (u64, u64) {
    let heard = &uses.others[key][model];
    (heard.requests.used, heard.tokens.used)
}

#[tokio::test]
async fn uses_of_all_processes_are_summed_and_written_twice_count_once() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let id = registry.create_key(&new("root", Role::Admin), "me").await.unwrap().key.id;
    let day = registry.key_uses("one", 0).await.unwrap().day;
    let write = async |replica: &str, uses: Vec<KeyUse>| {
        registry.exchange_key_uses(replica, 0, |_| uses).await.unwrap();
    };
    write("one", vec![used(&id, "", day, (3, 30)), used(&id, "", day - 1, (100, 100))]).await;
    write("one", vec![used(&id, "", day, (4, 40))]).await;
    write("two", vec![used(&id, "", day, (10, 5))]).await;
    let seen = registry.key_uses("two", 0).await.unwrap();
    assert_eq!((heard(&seen, &id, ""), seen.replicas), ((4, 40), 2));
    let seen = registry.key_uses("three", 0).await.unwrap();
    assert_eq!((heard(&seen, &id, ""), seen.replicas), ((14, 45), 3));
    let listed = registry.keys().await.unwrap();
    assert_eq!((listed[0].requests_today, listed[0].tokens_today), (14, 45));
    registry.leave_key_uses("one").await.unwrap();
    let seen = registry.key_uses("three", 0).await.unwrap();
    assert_eq!((heard(&seen, &id, ""), seen.replicas), ((14, 45), 2), "what was used stays");
    let ahead = registry.key_uses("three", day + 1).await.unwrap();
    assert!(ahead.day == day + 1 && ahead.others.is_empty(), "a clock that is set back brings no day back");
}

#[tokio::test]
async fn months_are_sums_of_their_days_and_models_are_counted_apart() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let quota = Quota { tokens_per_month: Some(500), ..Quota::default() };
    let limits = SetKey { per_model: [("big".to_owned(), quota)].into(), ..SetKey::default() };
    let key = NewKey { limits, ..new("root", Role::Admin) };
    let id = registry.create_key(&key, "me").await.unwrap().key.id;
    let listed = registry.keys().await.unwrap().remove(0);
    assert_eq!(listed.per_model["big"], KeyUsage::default(), "that it used nothing is said");
    let leap = bms_bundle::parse_time("2028-02-29").unwrap() / (24 * 3_600_000);
    let today = registry.key_uses("one", 0).await.unwrap().day;
    let uses = vec![
        used(&id, "", leap - 29, (1000, 1000)),
        used(&id, "", leap - 28, (1, 10)),
        used(&id, "", leap, (2, 20)),
        used(&id, "big", leap, (1, 7)),
        used(&id, "", leap + 1, (4, 40)),
        used(&id, "", today, (5, 50)),
        used(&id, "big", today, (3, 30)),
    ];
    registry.exchange_key_uses("one", 0, |_| uses).await.unwrap();
    registry.exchange_key_uses("two", 0, |_| vec![used(&id, "", leap, (100, 200))]).await.unwrap();
    let earlier = async |day| registry.key_uses_earlier(day).await.unwrap().remove(&id).unwrap_or_default();
    assert_eq!(earlier(leap - 28).await, [].into(), "a month begins with nothing");
    assert_eq!(earlier(leap).await[""], (1, 10));
    assert_eq!(earlier(leap + 1).await, [].into());
    assert_eq!(earlier(leap + 2).await[""], (4, 40));
    let listed = registry.keys().await.unwrap().remove(0);
    assert_eq!((listed.requests_today, listed.tokens_this_month), (5, 50));
    let big = KeyUsage { requests_today: 3, tokens_today: 30, requests_this_month: 3, tokens_this_month: 30 };
    assert_eq!(listed.per_model, [("big".to_owned(), big)].into());
    let seen = registry.key_uses("two", 0).await.unwrap();
    assert_eq!((heard(&seen, &id, ""), heard(&seen, &id, "big")), ((5, 50), (3, 30)));
    let gone = Quota { tokens_per_month: Some(0), ..Quota::default() };
    let set = SetKey { per_model: [("big".to_owned(), gone)].into(), ..SetKey::default() };
    assert!(registry.set_key("root", &set, "me").await.unwrap().limits.per_model.is_empty());
    let many = |count: usize| (0..count).map(|model| (format!("m{model}"), quota)).collect();
    let most = SetKey { per_model: many(limits::KEY_MODEL_LIMITS_MAX), ..SetKey::default() };
    registry.set_key("root", &most, "me").await.unwrap();
    let refused = registry
        .set_key("root", &SetKey { per_model: [("x".to_owned(), quota)].into(), ..SetKey::default() }, "me")
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::TooLarge);
    let unnamed = SetKey { per_model: [("A b".to_owned(), quota)].into(), ..SetKey::default() };
    assert_eq!(registry.set_key("root", &unnamed, "me").await.unwrap_err().code(), Code::InvalidRequest);
}

#[tokio::test]
async fn what_processes_hold_together_is_never_more_than_there_is() {
    const QUOTA: u64 = 1000;
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let id = registry.create_key(&new("root", Role::Admin), "me").await.unwrap().key.id;
    let process = async |replica: &str| {
        let (mut own, mut let_in) = (0, 0);
        for round in 0..20 {
            let mut holds = own;
            let tell = |seen: &KeyUses| {
                let others = seen.others.get(&id).map(|models| models[""].requests).unwrap_or_default();
                let left = QUOTA.saturating_sub(own).saturating_sub(others.used);
                let free = QUOTA.saturating_sub(own).saturating_sub(others.held);
                holds = own + free.min(left / 2);
                let requests = Spent { used: own, held: holds };
                vec![KeyUse { requests, ..used(&id, "", seen.day, (own, 0)) }]
            };
            registry.exchange_key_uses(replica, 0, tell).await.unwrap();
            // One takes all it may, the other half of it.
            own += (holds - own) / if replica == "one" { 1 } else { 2 };
            let_in = own;
            if round % 3 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let_in
    };
    let (one, two) = tokio::join!(process("one"), process("two"));
    assert!((QUOTA - 10..=QUOTA).contains(&(one + two)), "{one} and {two}");
}

#[tokio::test]
async fn what_a_process_holds_that_was_not_heard_for_long_is_free_again() {
    let dir = tempfile::tempdir().unwrap();
    let registry = open(dir.path()).await.unwrap();
    let id = registry.create_key(&new("root", Role::Admin), "me").await.unwrap().key.id;
    let day = registry.key_uses("one", 0).await.unwrap().day;
    let held = KeyUse { requests: Spent { used: 3, held: 9 }, ..used(&id, "big", day, (0, 0)) };
    registry.exchange_key_uses("one", 0, |_| vec![held]).await.unwrap();
    let seen = registry.key_uses("two", 0).await.unwrap().others[&id]["big"];
    assert_eq!((seen.requests, seen.counting), (Spent { used: 3, held: 9 }, 1));
    edit(dir.path(), "UPDATE api_key_replicas SET seen_ms = 1").await;
    let seen = registry.key_uses("two", 0).await.unwrap().others[&id]["big"];
    assert_eq!((seen.requests, seen.counting), (Spent { used: 3, held: 3 }, 0));
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
