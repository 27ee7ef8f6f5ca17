//! `bms key`: the keys of this home folder, and those of a server's callers.

use std::collections::BTreeMap;

use bms_bundle::time_text;
use bms_wire::api::{ApiKey, KeyUsage, NewKey, Quota, Role, SetKey};
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cmd::lifecycle::PersonOption;
use crate::home::Home;
use crate::output::{self, Output};
use crate::unit;

/// Options of `bms key`.
#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    action: KeyAction,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Print the public key that this home folder signs with, in PEM, to be trusted elsewhere.
    Show,
    /// Print the public key that bundles are sealed for to be opened here, in PEM.
    Sealing,
    /// Print the public key that signs a server's audit log, in PEM: `bms audit verify FILE --key` takes it.
    Audit,
    /// Make a key for callers of a server. It is shown this once.
    Create(Box<Create>),
    /// List the keys of a server's callers, with their limits and what they used of them.
    List,
    /// Change what a key may use.
    Set(Box<Set>),
    /// End a key, for good and within two seconds.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What the key is called.
    name: String,
    /// What it is for: admin (everything), deployer (models, deployments and asking), user (asking models) or edge (what an
    /// edge node does).
    #[arg(long, value_parser = role)]
    role: Role,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(Debug, Args)]
struct Set {
    /// The key's name.
    name: String,
    #[command(flatten)]
    limits: LimitOptions,
}

/// What a key may use.
#[derive(Debug, Args)]
struct LimitOptions {
    /// When it ends by itself, from now on, such as `90d`, `12h` or `30m`; 0 for never.
    #[arg(long, value_name = "TIME", value_parser = time)]
    expires: Option<u64>,
    /// Requests to models in a minute; 0 for no limit, as for those that follow.
    #[arg(long, value_name = "N")]
    requests_per_minute: Option<u64>,
    /// Tokens of prompts and answers in a minute.
    #[arg(long, value_name = "N")]
    tokens_per_minute: Option<u64>,
    /// Requests to models in a day of UTC.
    #[arg(long, value_name = "N")]
    requests_per_day: Option<u64>,
    /// Tokens of prompts and answers in a day of UTC.
    #[arg(long, value_name = "N")]
    tokens_per_day: Option<u64>,
    /// Requests to models in a calendar month of UTC.
    #[arg(long, value_name = "N")]
    requests_per_month: Option<u64>,
    /// Tokens of prompts and answers in a calendar month of UTC.
    #[arg(long, value_name = "N")]
    tokens_per_month: Option<u64>,
    /// Requests open at a time, on each replica.
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    /// How much of it one model may be asked, such as `chat:tokens-per-day=20000`: `requests-per-`, `tokens-per-` with `minute`, `day`,
    /// `month`, and `concurrent`. Can be given several times; a request has to be within the key's limits and the model's.
    #[arg(long = "limit", value_name = "MODEL:LIMIT=N", value_parser = model_limit)]
    model_limits: Vec<ModelLimit>,
    /// The models it may ask, separated by commas; `all` for all.
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Whether it may fill the queue of a model alone; otherwise half is left for others.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    priority: Option<bool>,
}

/// One limit of a model.
#[derive(Clone, Debug, PartialEq)]
struct ModelLimit {
    model: String,
    limit: String,
    most: u64,
}

impl LimitOptions {
    /// # Errors
    /// [`Code::InvalidRequest`] when a limit of a model is given twice.
    fn set(self) -> Result<SetKey> {
        let all = |models: &Vec<String>| models.len() == 1 && models[0] == "all";
        let mut per_model = BTreeMap::<String, Quota>::new();
        for ModelLimit { model, limit, most } in self.model_limits {
            let quota = per_model.entry(model.clone()).or_default();
            if quota.by_name(&limit).and_then(|before| before.replace(most)).is_some() {
                let what = format!("--limit {model}:{} is given twice", limit.replace('_', "-"));
                return Err(Error::new(Code::InvalidRequest, what).hint("Give it once."));
            }
        }
        Ok(SetKey {
            expires_seconds: self.expires,
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            requests_per_day: self.requests_per_day,
            tokens_per_day: self.tokens_per_day,
            requests_per_month: self.requests_per_month,
            tokens_per_month: self.tokens_per_month,
            concurrent: self.concurrent,
            per_model,
            models: self.models.map(|models| if all(&models) { Vec::new() } else { models }),
            priority: self.priority,
        })
    }
}

impl Key {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let key = match self.action {
            KeyAction::Show => home.signing_key()?,
            KeyAction::Sealing => home.sealing_key()?,
            KeyAction::Audit => home.audit_key()?,
            KeyAction::Create(create) => {
                let new = NewKey { name: create.name, role: create.role, limits: create.limits.set()? };
                let created = self.person.client()?.create_key(&new)?;
                output.result(&created.secret, &created);
                return Ok(());
            }
            KeyAction::List => {
                let keys = self.person.client()?.keys()?;
                output.result(table(&keys), &keys);
                return Ok(());
            }
            KeyAction::Set(set) => {
                let key = self.person.client()?.set_key(&set.name, &set.limits.set()?)?;
                output.result(table(std::slice::from_ref(&key)), &key);
                return Ok(());
            }
            KeyAction::Revoke { name } => {
                let key = self.person.client()?.revoke_key(&name)?;
                output.result(format_args!("{} ({}) is revoked", key.name, key.id), &key);
                return Ok(());
            }
        };
        let pem = key.public_pem();
        output.result(pem.trim_end(), &json!({"key_id": key.key_id(), "public_key": pem}));
        Ok(())
    }
}

fn table(keys: &[ApiKey]) -> impl std::fmt::Display {
    let mut table = output::table(&["name", "key", "role", "models", "requests", "tokens", "ends"]);
    for key in keys {
        let allowed = &key.limits;
        let ends = match (key.revoked_ms, key.expires_ms) {
            (Some(_), _) => "revoked".to_owned(),
            (None, None) => "never".to_owned(),
            (None, Some(expires)) => time_text(expires),
        };
        let used = KeyUsage {
            requests_today: key.requests_today,
            tokens_today: key.tokens_today,
            requests_this_month: key.requests_this_month,
            tokens_this_month: key.tokens_this_month,
        };
        let models = if allowed.models.is_empty() { "all".to_owned() } else { allowed.models.join(", ") };
        let [requests, tokens] = quota_cells(&allowed.quota(), &used);
        let (name, id, role) = (key.name.clone(), format!("{}…", key.id), key.role.as_str().to_owned());
        table.add_row([name, id, role, models, requests, tokens, ends]);
        for (model, quota) in &allowed.per_model {
            let used = key.per_model.get(model).copied().unwrap_or_default();
            let [requests, tokens] = quota_cells(quota, &used);
            let nothing = String::new;
            table.add_row([nothing(), nothing(), nothing(), model.clone(), requests, tokens, nothing()]);
        }
    }
    table
}

/// What was used of a quota's requests and tokens, and its limits, a line each.
fn quota_cells(quota: &Quota, used: &KeyUsage) -> [String; 2] {
    let of = |used: u64, limit: Option<u64>, when: &str| match limit {
        None => format!("{used} {when}"),
        Some(limit) => format!("{used} of {limit} {when}"),
    };
    let minute = |limit: Option<u64>| limit.map(|limit| format!("{limit} a minute"));
    let open = quota.concurrent.map(|limit| format!("{limit} at a time"));
    let requests = [
        Some(of(used.requests_today, quota.requests_per_day, "today")),
        Some(of(used.requests_this_month, quota.requests_per_month, "this month")),
        minute(quota.requests_per_minute),
        open,
    ];
    let tokens = [
        Some(of(used.tokens_today, quota.tokens_per_day, "today")),
        Some(of(used.tokens_this_month, quota.tokens_per_month, "this month")),
        minute(quota.tokens_per_minute),
    ];
    let lines = |lines: &[Option<String>]| lines.iter().flatten().cloned().collect::<Vec<_>>().join("\n");
    [lines(&requests), lines(&tokens)]
}

/// A limit of a model: `MODEL:LIMIT=N`.
fn model_limit(text: &str) -> std::result::Result<ModelLimit, String> {
    let expected = || "expected a limit of a model, such as chat:tokens-per-day=20000".to_owned();
    let (model, limit) = text.split_once(':').ok_or_else(expected)?;
    let (limit, most) = limit.split_once('=').ok_or_else(expected)?;
    let name = limit.replace('-', "_");
    if model.is_empty() {
        return Err(expected());
    }
    if limit.contains('_') || Quota::default().by_name(&name).is_none() {
        let known: Vec<_> = Quota::default().named().iter().map(|(name, _)| name.replace('_', "-")).collect();
        return Err(format!("there is no limit `{limit}`; it is one of {}", known.join(", ")));
    }
    let most = most.parse().map_err(|_| format!("`{most}` is not a number"))?;
    Ok(ModelLimit { model: model.to_owned(), limit: name, most })
}

fn role(name: &str) -> std::result::Result<Role, String> {
    Role::parse(name).ok_or_else(|| "expected admin, deployer, user or edge".to_owned())
}

/// Seconds of a time with its unit.
fn time(text: &str) -> std::result::Result<u64, String> {
    let has_unit = unit::TIMES.iter().any(|(unit, _)| text.ends_with(unit));
    if !has_unit && text != "0" {
        return Err("expected a time with its unit, such as 90d, 12h or 30m".to_owned());
    }
    unit::whole(text, &unit::TIMES, 1).ok_or_else(|| "expected a time such as 90d".to_owned())
}

#[cfg(test)]
mod tests;
