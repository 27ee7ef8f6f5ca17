//! Keys of callers: who may ask for what, and how much of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, keys included.
    Admin,
    /// What a user may, and models, deployments and rollouts.
    Deployer,
    /// Asking models.
    User,
    /// What an edge node asks its centre.
    Edge,
}

impl Role {
    /// Every role, the mightiest first.
    pub const ALL: [Role; 4] = [Role::Admin, Role::Deployer, Role::User, Role::Edge];

    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Deployer => "deployer",
            Role::User => "user",
            Role::Edge => "edge",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

/// How much may be used in some time. What is absent is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Requests in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Tokens of prompts and answers in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Requests in a calendar month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<u64>,
    /// Tokens of prompts and answers in a calendar month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// Requests open at a time, on each replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
}

impl Quota {
    /// Its limits by the names they have everywhere.
    pub fn named(&self) -> [(&'static str, Option<u64>); 7] {
        [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
            ("requests_per_day", self.requests_per_day),
            ("tokens_per_day", self.tokens_per_day),
            ("requests_per_month", self.requests_per_month),
            ("tokens_per_month", self.tokens_per_month),
            ("concurrent", self.concurrent),
        ]
    }

    /// The limit of this name.
    pub fn by_name(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "requests_per_minute" => &mut self.requests_per_minute,
            "tokens_per_minute" => &mut self.tokens_per_minute,
            "requests_per_day" => &mut self.requests_per_day,
            "tokens_per_day" => &mut self.tokens_per_day,
            "requests_per_month" => &mut self.requests_per_month,
            "tokens_per_month" => &mut self.tokens_per_month,
            "concurrent" => &mut self.concurrent,
            _ => return None,
        })
    }

    /// Puts what another one says over it, where 0 is for no limit.
    fn change(&mut self, to: &Quota) {
        for (name, to) in to.named() {
            if let (Some(limit), Some(to)) = (self.by_name(name), to) {
                *limit = (to != 0).then_some(to);
            }
        }
    }
}

/// What a key may use. What is absent is unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyLimits {
    /// Requests to models in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests to models in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// Tokens of prompts and answers in a day of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// Requests to models in a calendar month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<u64>,
    /// Tokens of prompts and answers in a calendar month of UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// Requests open at a time, on each replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
    /// How much of it one model may be asked, by its name: a request has to be within both.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_model: BTreeMap<String, Quota>,
    /// The models it may ask; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Whether it may fill the queue of a model alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub priority: bool,
}

impl KeyLimits {
    /// What it may use of all models together.
    pub fn quota(&self) -> Quota {
        Quota {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            requests_per_day: self.requests_per_day,
            tokens_per_day: self.tokens_per_day,
            requests_per_month: self.requests_per_month,
            tokens_per_month: self.tokens_per_month,
            concurrent: self.concurrent,
        }
    }
}

/// `PUT /api/v1/keys/{name}`: what changes of a key. What is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SetKey {
    /// Seconds from now until it expires; 0 for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_seconds: Option<u64>,
    /// See [`KeyLimits`]; 0 for no limit, as for those that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_day: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_day: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_month: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_month: Option<u64>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
    /// See [`KeyLimits`]; models that are not named keep their limits, and one without any left is no longer in there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub per_model: BTreeMap<String, Quota>,
    /// See [`KeyLimits`]; an empty list for all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<bool>,
}

impl SetKey {
    /// What changes of the limits of all models together; 0 for no limit.
    pub fn quota(&self) -> Quota {
        Quota {
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            requests_per_day: self.requests_per_day,
            tokens_per_day: self.tokens_per_day,
            requests_per_month: self.requests_per_month,
            tokens_per_month: self.tokens_per_month,
            concurrent: self.concurrent,
        }
    }

    /// Puts what it changes into limits.
    pub fn apply(&self, limits: &mut KeyLimits) {
        let mut all = limits.quota();
        all.change(&self.quota());
        limits.requests_per_minute = all.requests_per_minute;
        limits.tokens_per_minute = all.tokens_per_minute;
        limits.requests_per_day = all.requests_per_day;
        limits.tokens_per_day = all.tokens_per_day;
        limits.requests_per_month = all.requests_per_month;
        limits.tokens_per_month = all.tokens_per_month;
        limits.concurrent = all.concurrent;
        for (model, to) in &self.per_model {
            limits.per_model.entry(model.clone()).or_default().change(to);
        }
        limits.per_model.retain(|_, quota| *quota != Quota::default());
        if let Some(models) = &self.models {
            limits.models.clone_from(models);
        }
        limits.priority = self.priority.unwrap_or(limits.priority);
    }
}

/// `POST /api/v1/keys`: makes a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// What it is called: `[a-z0-9][a-z0-9._-]*`. Free again once the key is revoked.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What it may use.
    #[serde(default)]
    pub limits: SetKey,
}

/// A key, without its secret, which nobody keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The beginning of its secret, by which it is known.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What it may use.
    pub limits: KeyLimits,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// When it ends by itself, in milliseconds since 1970.
    pub expires_ms: Option<i64>,
    /// When it was revoked, in milliseconds since 1970.
    pub revoked_ms: Option<i64>,
    /// Requests to models today, as far as replicas have written them down.
    pub requests_today: u64,
    /// Tokens of prompts and answers today.
    pub tokens_today: u64,
    /// Requests to models in this calendar month of UTC.
    #[serde(default)]
    pub requests_this_month: u64,
    /// Tokens of prompts and answers in this month.
    #[serde(default)]
    pub tokens_this_month: u64,
    /// What it used of the models it has limits for, since it has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub per_model: BTreeMap<String, KeyUsage>,
}

/// What was used, as far as replicas have written it down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUsage {
    /// Requests today, in UTC.
    pub requests_today: u64,
    /// Tokens of prompts and answers today.
    pub tokens_today: u64,
    /// Requests in this calendar month.
    pub requests_this_month: u64,
    /// Tokens of prompts and answers in this month.
    pub tokens_this_month: u64,
}

/// A key that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedKey {
    /// What is sent as `Authorization: Bearer …` or `x-api-key`. Shown this once.
    pub secret: String,
    /// The key.
    pub key: ApiKey,
}

impl std::fmt::Debug for CreatedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedKey").field("key", &self.key).finish_non_exhaustive()
    }
}
