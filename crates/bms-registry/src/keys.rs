//! Keys of callers.
//!
//! A secret is 256 random bits, and what is kept of it is its BLAKE3. A slow hash, as passwords have, would add nothing: it
//! makes guesses dear, and nobody guesses 256 bits. It would cost every request, though.

use std::collections::BTreeMap;

use bms_wire::api::{ApiKey, CreatedKey, KeyLimits, KeyUsage, NewKey, Role, SetKey};
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;

use crate::Registry;
use crate::database::{Connection, Row, count, reading, text, to_db, value, writing};
use crate::names::check_name;
use crate::registry::Change;

mod given;
mod secret;
mod uses;

pub use given::{GivenKey, GivenOutcome};
use secret::Secret;
pub use secret::{KEY_ID_CHARS, MonitorKey};
pub use uses::{ByKey, KeyUse, KeyUses, OthersUse, Spent};

/// Days of which it is kept what keys used.
const DAYS_KEPT: i64 = 400;

/// A key as servers hold it.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// The key.
    pub key: ApiKey,
    /// BLAKE3 of its secret. Comparing takes the same time for all.
    pub hash: blake3::Hash,
}

impl Registry {
    /// Makes a key; `by` is who asked for it. The first key is an admin's: otherwise nobody could make another.
    ///
    /// # Errors
    /// [`Code::Conflict`] when there is a key of this name, or no admin's; [`Code::InvalidRequest`] when the name or a
    /// limit does not fit; [`Code::TooLarge`] when there are too many.
    pub async fn create_key(&self, new: &NewKey, by: &str) -> Result<CreatedKey> {
        check_name("name of a key", &new.name)?;
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        if new.role != Role::Admin && !has_admin(change.db(), now, None).await? {
            return Err(Error::new(Code::Conflict, "there is no admin's key yet, so nobody could make more")
                .hint("Make one with `--role admin` first."));
        }
        let made = insert(&mut change, new, Secret::random()?, by, now).await?;
        made.commit(change).await
    }

    /// Makes a key for an admin, unless there is one that counts now. Of several replicas that start, one makes it.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn create_first_admin(&self) -> Result<Option<CreatedKey>> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        if has_admin(change.db(), now, None).await? {
            return Ok(None);
        }
        let name = match find(change.db(), "admin").await? {
            // It has expired, and its name is taken until it is revoked.
            Some(_) => format!("admin-{}", &secret::random_hex::<4>()?),
            None => "admin".to_owned(),
        };
        let new = NewKey { name, role: Role::Admin, limits: SetKey::default() };
        let made = insert(&mut change, &new, Secret::random()?, "server", now).await?;
        made.commit(change).await.map(Some)
    }

    /// Changes what a key may use.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none of this name; [`Code::InvalidRequest`] when a limit does not fit.
    pub async fn set_key(&self, name: &str, set: &SetKey, by: &str) -> Result<ApiKey> {
        let mut change = self.change().await?;
        let mut key = find(change.db(), name).await?.ok_or_else(|| no_key(name))?;
        let now = self.db.now_ms(change.db()).await?;
        check(set)?;
        set.apply(&mut key.limits);
        check_models(&key.limits)?;
        if let Some(seconds) = set.expires_seconds {
            key.expires_ms = expiry(now, seconds);
            if seconds != 0
                && key.role == Role::Admin
                && !has_admin(change.db(), i64::MAX, Some(&key.id)).await?
            {
                return Err(last_admin("cannot expire"));
            }
        }
        sqlx::query(
            "UPDATE api_keys SET limits = $2, expires_ms = $3, revision = revision + 1 WHERE id = $1",
        )
        .bind(&key.id)
        .bind(as_json(&key.limits)?)
        .bind(key.expires_ms)
        .execute(change.db())
        .await
        .map_err(writing)?;
        let details = json!({ "id": key.id, "by": by, "limits": key.limits, "expires_ms": key.expires_ms });
        change.audit("key.changed", name, details).await?;
        change.commit().await?;
        Ok(key)
    }

    /// Ends a key for good.
    ///
    /// # Errors
    /// [`Code::NotFound`] when there is none of this name; [`Code::Conflict`] for the last admin's while there are others.
    pub async fn revoke_key(&self, name: &str, by: &str) -> Result<ApiKey> {
        let mut change = self.change().await?;
        let mut key = find(change.db(), name).await?.ok_or_else(|| no_key(name))?;
        let now = self.db.now_ms(change.db()).await?;
        let others = count_live(change.db()).await? - 1;
        if key.role == Role::Admin && others != 0 && !has_admin(change.db(), now, Some(&key.id)).await? {
            return Err(last_admin("cannot be revoked while there are others"));
        }
        end(&mut change, &mut key, by, now).await?;
        change.commit().await?;
        Ok(key)
    }

    /// Whether an admin has a key that counts now.
    ///
    /// # Errors
    /// Storage errors.
    pub async fn has_admin_key(&self) -> Result<bool> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        has_admin(&mut tx, now, None).await
    }

    /// Every key with what it used today and in this month, by name; those that were revoked last.
    pub async fn keys(&self) -> Result<Vec<ApiKey>> {
        let mut tx = self.db.snapshot().await?;
        let now = self.db.now_ms(&mut tx).await?;
        let mut usage = uses::usage(&mut tx, now).await?;
        let rows = sqlx::query("SELECT * FROM api_keys ORDER BY revoked_ms IS NOT NULL, name, created_ms")
            .fetch_all(&mut *tx)
            .await
            .map_err(reading)?;
        let key = |row: &Row| {
            let mut key = read(row)?;
            let of_it = usage.remove(&key.id).unwrap_or_default();
            used(&mut key, of_it);
            Ok(key)
        };
        rows.iter().map(key).collect()
    }

    /// A number that changes whenever a key does.
    pub async fn keys_revision(&self) -> Result<u64> {
        let row = sqlx::query("SELECT CAST(COALESCE(SUM(revision), 0) AS BIGINT) AS revision FROM api_keys")
            .fetch_one(&self.db.pool)
            .await
            .map_err(reading)?;
        count(&row, "revision")
    }

    /// The keys that were not revoked, as servers hold them, and the number of [`Registry::keys_revision`].
    pub async fn stored_keys(&self) -> Result<(u64, Vec<StoredKey>)> {
        let mut tx = self.db.snapshot().await?;
        let row = sqlx::query("SELECT CAST(COALESCE(SUM(revision), 0) AS BIGINT) AS revision FROM api_keys")
            .fetch_one(&mut *tx)
            .await
            .map_err(reading)?;
        let rows = sqlx::query("SELECT * FROM api_keys WHERE revoked_ms IS NULL")
            .fetch_all(&mut *tx)
            .await
            .map_err(reading)?;
        let stored = |row: &Row| {
            let key = read(row)?;
            let hash = blake3::Hash::from_hex(text(row, "hash")?)
                .map_err(|_| Error::new(Code::Io, format!("the hash of key `{}` cannot be read", key.id)))?;
            Ok(StoredKey { key, hash })
        };
        let keys: Result<Vec<_>> = rows.iter().map(stored).collect();
        Ok((count(&row, "revision")?, keys?))
    }
}

/// A key that is in the database once the change is committed.
struct Made(CreatedKey);

impl Made {
    async fn commit(self, change: Change) -> Result<CreatedKey> {
        change.commit().await?;
        Ok(self.0)
    }
}

async fn insert(change: &mut Change, new: &NewKey, secret: Secret, by: &str, now: i64) -> Result<Made> {
    check(&new.limits)?;
    if find(change.db(), &new.name).await?.is_some() {
        return Err(Error::new(Code::Conflict, format!("there is a key `{}` already", new.name))
            .hint("Revoke it first, change it with `bms key set`, or take another name."));
    }
    let row =
        sqlx::query("SELECT COUNT(*) AS keys FROM api_keys").fetch_one(change.db()).await.map_err(reading)?;
    if limits::API_KEYS_MAX <= count(&row, "keys")? {
        let what = format!("the registry has {} keys already", limits::API_KEYS_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    let mut allowed = KeyLimits::default();
    new.limits.apply(&mut allowed);
    check_models(&allowed)?;
    let key = ApiKey {
        id: secret.id().to_owned(),
        name: new.name.clone(),
        role: new.role,
        limits: allowed,
        created_ms: now,
        expires_ms: new.limits.expires_seconds.and_then(|seconds| expiry(now, seconds)),
        revoked_ms: None,
        requests_today: 0,
        tokens_today: 0,
        requests_this_month: 0,
        tokens_this_month: 0,
        per_model: BTreeMap::new(),
    };
    sqlx::query(
        "INSERT INTO api_keys (id, name, hash, role, limits, created_ms, expires_ms, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1)",
    )
    .bind(&key.id)
    .bind(&key.name)
    .bind(secret.hash().to_hex().to_string())
    .bind(key.role.as_str())
    .bind(as_json(&key.limits)?)
    .bind(now)
    .bind(key.expires_ms)
    .execute(change.db())
    .await
    .map_err(writing)?;
    let details = json!({ "id": key.id, "role": key.role, "by": by, "limits": key.limits,
                          "expires_ms": key.expires_ms });
    change.audit("key.created", &key.name, details).await?;
    Ok(Made(CreatedKey { secret: secret.shown(), key }))
}

/// Revokes a key once the change is committed.
async fn end(change: &mut Change, key: &mut ApiKey, by: &str, now: i64) -> Result<()> {
    key.revoked_ms = Some(now);
    sqlx::query("UPDATE api_keys SET revoked_ms = $2, revision = revision + 1 WHERE id = $1")
        .bind(&key.id)
        .bind(now)
        .execute(change.db())
        .await
        .map_err(writing)?;
    change.audit("key.revoked", &key.name, json!({ "id": key.id, "by": by })).await.map(drop)
}

fn check(set: &SetKey) -> Result<()> {
    let models = set.models.as_deref().unwrap_or_default();
    if limits::KEY_MODELS_MAX < models.len() {
        let what = format!("a key is restricted to {} models at most", limits::KEY_MODELS_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    models.iter().try_for_each(|model| check_name("model name", model))?;
    if set.expires_seconds.is_some_and(|seconds| limits::KEY_SECONDS_MAX < seconds) {
        let what = format!("a key that expires lasts {} days at most", limits::KEY_SECONDS_MAX / (24 * 3600));
        return Err(Error::new(Code::InvalidRequest, what).hint("0 is for one that does not expire."));
    }
    set.per_model.keys().try_for_each(|model| check_name("model name", model))?;
    let quotas = std::iter::once(set.quota()).chain(set.per_model.values().copied());
    let mut numbers = quotas.flat_map(|quota| quota.named()).filter_map(|(_, number)| number);
    numbers.try_for_each(|number| to_db(number).map(drop))
}

fn check_models(allowed: &KeyLimits) -> Result<()> {
    if allowed.per_model.len() <= limits::KEY_MODEL_LIMITS_MAX {
        return Ok(());
    }
    let what = format!("a key has limits of their own for {} models at most", limits::KEY_MODEL_LIMITS_MAX);
    Err(Error::new(Code::TooLarge, what).hint("Set all limits of a model to 0 to remove it."))
}

fn expiry(now: i64, seconds: u64) -> Option<i64> {
    let length = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
    (seconds != 0).then(|| now.saturating_add(length))
}

fn as_json(limits: &KeyLimits) -> Result<String> {
    serde_json::to_string(limits)
        .map_err(|e| Error::new(Code::Internal, "the limits of a key cannot be written").because(e))
}

/// Whether there is an admin's key that counts at this time, other than `besides`; at the end of time one that never expires.
async fn has_admin(db: &mut Connection, now: i64, besides: Option<&str>) -> Result<bool> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS keys FROM api_keys WHERE role = 'admin' AND revoked_ms IS NULL
         AND (expires_ms IS NULL OR expires_ms > $1) AND id <> $2",
    )
    .bind(now)
    .bind(besides.unwrap_or_default())
    .fetch_one(db)
    .await
    .map_err(reading)?;
    Ok(count(&row, "keys")? != 0)
}

async fn count_live(db: &mut Connection) -> Result<u64> {
    let row = sqlx::query("SELECT COUNT(*) AS keys FROM api_keys WHERE revoked_ms IS NULL")
        .fetch_one(db)
        .await
        .map_err(reading)?;
    count(&row, "keys")
}

/// The key of this name that was not revoked.
async fn find(db: &mut Connection, name: &str) -> Result<Option<ApiKey>> {
    let row = sqlx::query("SELECT * FROM api_keys WHERE name = $1 AND revoked_ms IS NULL")
        .bind(name)
        .fetch_optional(db)
        .await
        .map_err(reading)?;
    row.as_ref().map(read).transpose()
}

fn read(row: &Row) -> Result<ApiKey> {
    let (id, role, allowed) = (text(row, "id")?, text(row, "role")?, text(row, "limits")?);
    let unreadable = |what: &str| Error::new(Code::Io, format!("the {what} of key `{id}` cannot be read"));
    Ok(ApiKey {
        name: text(row, "name")?,
        role: Role::parse(&role).ok_or_else(|| unreadable("role"))?,
        limits: serde_json::from_str(&allowed).map_err(|e| unreadable("limits").because(e))?,
        created_ms: value(row, "created_ms")?,
        expires_ms: value(row, "expires_ms")?,
        revoked_ms: value(row, "revoked_ms")?,
        requests_today: 0,
        tokens_today: 0,
        requests_this_month: 0,
        tokens_this_month: 0,
        per_model: BTreeMap::new(),
        id,
    })
}

/// Puts down what a key used, by model and, under no name, in all. Of models it has limits for now it is said, also that
/// it is nothing.
fn used(key: &mut ApiKey, mut usage: BTreeMap<String, KeyUsage>) {
    let all = usage.remove("").unwrap_or_default();
    key.requests_today = all.requests_today;
    key.tokens_today = all.tokens_today;
    key.requests_this_month = all.requests_this_month;
    key.tokens_this_month = all.tokens_this_month;
    let of = |model: &String| (model.clone(), usage.remove(model).unwrap_or_default());
    key.per_model = key.limits.per_model.keys().map(of).collect();
}

fn no_key(name: &str) -> Error {
    let shown: String = name.chars().take(limits::NAME_CHARS_MAX).collect();
    Error::new(Code::NotFound, format!("there is no key `{shown}`"))
        .hint("`bms key list` shows those there are.")
}

fn last_admin(what: &str) -> Error {
    Error::new(Code::Conflict, format!("the last key of an admin {what}"))
        .hint("Make another with `--role admin` first.")
}
