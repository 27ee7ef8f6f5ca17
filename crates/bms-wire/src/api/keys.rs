//! Keys of callers: who may ask for what, and how much of it.

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
    /// Requests open at a time, on each replica.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u64>,
    /// The models it may ask; all when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Whether it may fill the queue of a model alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub priority: bool,
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
    pub concurrent: Option<u64>,
    /// See [`KeyLimits`]; an empty list for all models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// See [`KeyLimits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<bool>,
}

impl SetKey {
    /// Puts what it changes into limits.
    pub fn apply(&self, limits: &mut KeyLimits) {
        let set = |limit: &mut Option<u64>, to: Option<u64>| {
            if let Some(to) = to {
                *limit = (to != 0).then_some(to);
            }
        };
        set(&mut limits.requests_per_minute, self.requests_per_minute);
        set(&mut limits.tokens_per_minute, self.tokens_per_minute);
        set(&mut limits.requests_per_day, self.requests_per_day);
        set(&mut limits.tokens_per_day, self.tokens_per_day);
        set(&mut limits.concurrent, self.concurrent);
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
