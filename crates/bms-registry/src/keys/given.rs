//! Keys whose secrets are brought along, by whoever runs the server: they are there from the first request on, and no
//! secret has to be shown.

use bms_wire::api::{KeyLimits, NewKey, Role, SetKey};
use bms_wire::{Code, Error, Result};

use super::secret::Secret;
use super::{end, find, has_admin, insert, read};
use crate::Registry;
use crate::database::{reading, text};
use crate::names::check_name;
use crate::registry::Change;

/// A key that shall exist.
#[derive(Clone, Debug)]
pub struct GivenKey {
    name: String,
    role: Role,
    secret: Secret,
}

impl GivenKey {
    /// The key of this name with this secret.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the name is none, or the secret does not look like one of a key.
    pub fn new(name: &str, role: Role, secret: &str) -> Result<Self> {
        check_name("name of a key", name)?;
        Ok(GivenKey { name: name.to_owned(), role, secret: Secret::parse(secret)? })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// What became of a key that was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenOutcome {
    /// It was there.
    Known,
    /// It was made.
    Made,
    /// It was made, and the key that had its name was revoked.
    Replaced,
    /// It was revoked or has expired, and stays so.
    Ended,
}

impl Registry {
    /// Sees to it that these keys exist: all or, after an error, none of them. `by` is who asks for it. A key whose name another one has takes its
    /// place and its limits, and that one is revoked. One that was revoked is not brought back.
    ///
    /// # Errors
    /// [`Code::Conflict`] when a key has another role or name than was given, or another secret that begins alike, or
    /// when keys would be made without any admin's; [`Code::TooLarge`] when there are too many.
    pub async fn give_keys(&self, given: &[GivenKey], by: &str) -> Result<Vec<GivenOutcome>> {
        let mut change = self.change().await?;
        let now = self.db.now_ms(change.db()).await?;
        let mut outcomes = vec![GivenOutcome::Known; given.len()];
        // The first key is an admin's.
        let (admins, others): (Vec<_>, Vec<_>) =
            given.iter().zip(&mut outcomes).partition(|(key, _)| key.role == Role::Admin);
        for (key, outcome) in admins.into_iter().chain(others) {
            *outcome = give(&mut change, key, by, now).await?;
        }
        if outcomes.iter().any(|outcome| matches!(outcome, GivenOutcome::Made | GivenOutcome::Replaced)) {
            change.commit().await?;
        }
        Ok(outcomes)
    }
}

async fn give(change: &mut Change, given: &GivenKey, by: &str, now: i64) -> Result<GivenOutcome> {
    let GivenKey { name, role, secret } = given;
    let conflict = |what: String| Error::new(Code::Conflict, what);
    let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1")
        .bind(secret.id())
        .fetch_optional(change.db())
        .await
        .map_err(reading)?;
    if let Some(row) = row {
        let key = read(&row)?;
        if text(&row, "hash")? != secret.hash().to_hex().as_str() {
            return Err(conflict(format!(
                "another key than `{name}` has a secret that begins with {}",
                key.id
            ))
            .hint("Take another secret."));
        }
        if key.revoked_ms.is_some() || key.expires_ms.is_some_and(|at| at <= now) {
            return Ok(GivenOutcome::Ended);
        }
        if key.name != *name || key.role != *role {
            let (is, given) = (key.role.as_str(), role.as_str());
            let what =
                format!("the key given as `{name}`, for role {given}, is `{}`, for role {is}", key.name);
            return Err(conflict(what).hint("Take another secret, or give it as what it is."));
        }
        return Ok(GivenOutcome::Known);
    }
    let new = |limits| NewKey { name: name.clone(), role: *role, limits };
    let Some(mut before) = find(change.db(), name).await? else {
        if *role != Role::Admin && !has_admin(change.db(), now, None).await? {
            return Err(conflict(format!("no admin has a key yet, so `{name}` cannot be made"))
                .hint("Give an admin's key, too."));
        }
        insert(change, &new(SetKey::default()), secret.clone(), by, now).await?;
        return Ok(GivenOutcome::Made);
    };
    if before.role != *role {
        let (is, given) = (before.role.as_str(), role.as_str());
        return Err(conflict(format!("the key `{name}` is for role {is} and was given for role {given}"))
            .hint("Revoke it first, or give it another name."));
    }
    end(change, &mut before, by, now).await?;
    insert(change, &new(same(&before.limits)), secret.clone(), by, now).await?;
    Ok(GivenOutcome::Replaced)
}

/// The same limits, to be set.
fn same(limits: &KeyLimits) -> SetKey {
    SetKey {
        expires_seconds: None,
        requests_per_minute: limits.requests_per_minute,
        tokens_per_minute: limits.tokens_per_minute,
        requests_per_day: limits.requests_per_day,
        tokens_per_day: limits.tokens_per_day,
        requests_per_month: limits.requests_per_month,
        tokens_per_month: limits.tokens_per_month,
        concurrent: limits.concurrent,
        per_model: limits.per_model.clone(),
        models: Some(limits.models.clone()),
        priority: Some(limits.priority),
    }
}
