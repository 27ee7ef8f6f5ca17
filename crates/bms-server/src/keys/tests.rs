use std::collections::BTreeMap;
use std::sync::Arc;

use bms_registry::StoredKey;
use bms_wire::Code;
use bms_wire::api::{ApiKey, KeyLimits, Role};
use http::{HeaderMap, HeaderValue};

use super::access::Access;
use super::{KeySettings, Keys, KeysMode, secret};
use crate::metrics::Metrics;

const SECRET: &str = "bms_0123456789_secret";

fn stored(role: Role, limits: KeyLimits) -> StoredKey {
    let key = ApiKey {
        id: SECRET[..14].to_owned(),
        name: "a".to_owned(),
        role,
        limits,
        created_ms: 0,
        expires_ms: None,
        revoked_ms: None,
        requests_today: 0,
        tokens_today: 0,
        requests_this_month: 0,
        tokens_this_month: 0,
        per_model: BTreeMap::new(),
    };
    StoredKey { key, hash: blake3::hash(SECRET.as_bytes()) }
}

/// Keys of a server on this machine, with one key.
pub(super) fn keys_with(role: Role, limits: KeyLimits) -> Arc<Keys> {
    let metrics = Arc::new(Metrics::new().unwrap());
    let keys = Keys::new(&KeySettings::default(), "127.0.0.1:1".parse().unwrap(), metrics).unwrap();
    keys.replace(1, vec![stored(role, limits)]);
    keys
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line =
        |(name, value): &(&'static str, &str)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap());
    lines.iter().map(line).collect()
}

#[track_caller]
fn expect(keys: &Keys, access: Access, lines: &[(&'static str, &str)], want: Result<bool, Code>) {
    let got = keys.admit(keys.mode(), access, &headers(lines));
    assert_eq!(got.map(|caller| caller.is_some()).map_err(|e| e.code()), want, "{access:?} with {lines:?}");
}

#[test]
fn a_key_is_found_wherever_clients_put_it_and_no_other_is() {
    let keys = keys_with(Role::User, KeyLimits::default());
    let bearer = format!("Bearer {SECRET}");
    expect(&keys, Access::Ask, &[("authorization", &bearer)], Ok(true));
    expect(&keys, Access::Ask, &[("authorization", &bearer.to_lowercase())], Ok(true));
    expect(&keys, Access::Ask, &[("x-api-key", SECRET)], Ok(true));
    expect(&keys, Access::Ask, &[("authorization", "Basic eDp5"), ("x-api-key", SECRET)], Ok(true));
    expect(&keys, Access::Ask, &[("authorization", &bearer), ("x-api-key", "y")], Err(Code::Unauthenticated));
    for wrong in
        ["bms_0123456789_secreu", "bms_0123456789", "bms_0123456788_secret", "x", "bms_0123456789_secret_"]
    {
        expect(&keys, Access::Ask, &[("x-api-key", wrong)], Err(Code::Unauthenticated));
    }
    expect(&keys, Access::Ask, &[], Err(Code::Unauthenticated));
    expect(&keys, Access::Deploy, &[("x-api-key", SECRET)], Err(Code::PermissionDenied));
    expect(&keys, Access::Open, &[], Ok(false));
    expect(&keys, Access::Open, &[("x-api-key", "wrong")], Ok(false));
    expect(&keys, Access::Metrics, &[], Err(Code::Unauthenticated));
    assert_eq!(secret(&headers(&[("authorization", "Bearer ")])).unwrap(), None);
}

#[test]
fn keys_are_required_once_there_is_one_and_none_is_forgotten_when_it_expires() {
    let keys = keys_with(Role::Admin, KeyLimits::default());
    assert_eq!(keys.mode(), KeysMode::Required);
    let mut expired = stored(Role::Admin, KeyLimits::default());
    expired.key.expires_ms = Some(1);
    keys.replace(2, vec![expired]);
    assert_eq!(keys.mode(), KeysMode::Required);
    expect(&keys, Access::Ask, &[("x-api-key", SECRET)], Err(Code::Unauthenticated));
    keys.replace(3, Vec::new());
    assert_eq!(keys.mode(), KeysMode::Off);
}

#[test]
fn other_machines_are_let_in_with_keys_and_a_word_only() {
    let everywhere = "0.0.0.0:8080".parse().unwrap();
    let rule = |mode, plain_http| {
        let settings = KeySettings { mode, plain_http, ..KeySettings::default() };
        settings.rule(everywhere).map_err(|e| e.code())
    };
    let required = Ok(super::Rule::Always(KeysMode::Required));
    assert_eq!(rule(None, true), required);
    assert_eq!(rule(Some(KeysMode::Required), true), required);
    assert_eq!(rule(Some(KeysMode::Off), true), Err(Code::PermissionDenied));
    assert_eq!(rule(Some(KeysMode::Optional), true), Err(Code::PermissionDenied));
    assert_eq!(rule(Some(KeysMode::Required), false), Err(Code::PermissionDenied));
    let encrypted = |mode| KeySettings { mode, encrypted: true, ..KeySettings::default() }.rule(everywhere);
    assert_eq!(encrypted(None).unwrap(), super::Rule::Always(KeysMode::Required));
    assert_eq!(encrypted(Some(KeysMode::Off)).unwrap_err().code(), Code::PermissionDenied);
    let here = KeySettings::default().rule("[::1]:80".parse().unwrap());
    assert_eq!(here.unwrap(), super::Rule::OnceThereIsOne);
}
