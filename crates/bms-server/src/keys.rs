//! Keys of callers: who is let in, to what, and for how much.
//!
//! ```text
//! request ──▶ door: known key? ──▶ access: may its role do this? ──▶ caller: within its limits? ──▶ gateway
//!                     ▲ table in memory                                    │ ticket, until the answer is out
//!             registry ◀── keep: every second: changed keys, counts of all replicas
//! ```
//!
//! No request waits for the database: keys are looked up in memory, and what they use is written down every second.

mod access;
mod bucket;
mod caller;
mod counted;
mod door;
mod keep;
mod share;
mod tally;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bms_registry::{KEY_ID_CHARS, KeyUses, MonitorKey, Registry, StoredKey};
use bms_wire::api::CreatedKey;
use bms_wire::{Code, Error, Result};
use http::{HeaderMap, HeaderName, header};
use tokio::sync::Notify;

use crate::metrics::Metrics;

use access::Access;
#[cfg(test)]
pub(crate) use access::has_a_line;
pub(crate) use caller::Ticket;
use caller::{Caller, Counts};
pub(crate) use door::{Asking, door};
pub(crate) use keep::{Keeper, keep};
use tally::Moment;

/// Where a key stands besides `Authorization`.
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &[u8] = b"bearer ";

/// Whether requests need a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeysMode {
    /// Keys are not looked at.
    Off,
    /// A request with a key is held to it; one without may do everything.
    Optional,
    /// Every request needs a key, but for health checks and the files of the dashboard.
    Required,
}

/// How a server treats keys.
#[derive(Clone, Debug, Default)]
pub struct KeySettings {
    /// Whether requests need one. When absent: they do once there is a key, and always where other machines reach
    /// the server.
    pub mode: Option<KeysMode>,
    /// The server may listen where other machines reach it, without encryption.
    pub plain_http: bool,
    /// The server encrypts, so that it may listen there. What counts in the end is whether it does.
    pub encrypted: bool,
    /// `/metrics` needs no key.
    pub metrics_open: bool,
    /// Keys that read `/metrics` and nothing else, beside those of the registry.
    pub monitors: Vec<MonitorKey>,
}

/// Whether requests need a key on a server that listens at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Always(KeysMode),
    /// Once there is one.
    OnceThereIsOne,
}

impl KeySettings {
    /// # Errors
    /// [`Code::PermissionDenied`] when others could reach the server without a key, or without it being said that
    /// what passes can be read.
    fn rule(&self, address: SocketAddr) -> Result<Rule> {
        if address.ip().to_canonical().is_loopback() {
            return Ok(self.mode.map_or(Rule::OnceThereIsOne, Rule::Always));
        }
        let denied = |what: String, hint: &str| Err(Error::new(Code::PermissionDenied, what).hint(hint));
        if !(self.encrypted || self.plain_http) {
            return denied(
                format!(
                    "`{address}` can be reached by other machines, and what passes there is not encrypted"
                ),
                "Give it a certificate with --tls-cert and --tls-key; or listen on 127.0.0.1 behind a proxy that encrypts, or \
                 say --plain-http. Keys are required then.",
            );
        }
        match self.mode {
            None | Some(KeysMode::Required) => Ok(Rule::Always(KeysMode::Required)),
            Some(KeysMode::Off | KeysMode::Optional) => denied(
                format!("`{address}` can be reached by other machines, and requests would need no key"),
                "Leave --keys out, or say --keys required.",
            ),
        }
    }
}

/// Makes a key for an admin, when a server that listens at `address` needs keys and no admin has one. To be shown once.
///
/// # Errors
/// [`Code::PermissionDenied`] when the server may not listen there; storage errors.
pub async fn first_key(
    registry: &Registry,
    settings: &KeySettings,
    address: SocketAddr,
) -> Result<Option<CreatedKey>> {
    let needed = match settings.rule(address)? {
        Rule::Always(mode) => mode == KeysMode::Required,
        Rule::OnceThereIsOne => !registry.stored_keys().await?.1.is_empty(),
    };
    if needed { registry.create_first_admin().await } else { Ok(None) }
}

/// The keys of one server.
#[derive(Debug)]
pub(crate) struct Keys {
    rule: Rule,
    metrics_open: bool,
    monitors: Vec<MonitorKey>,
    table: RwLock<Arc<Table>>,
    shared: Arc<Shared>,
}

/// The keys as they stood at one time.
#[derive(Debug, Default)]
struct Table {
    revision: Option<u64>,
    callers: BTreeMap<String, Arc<Caller>>,
    /// Those whose keys were revoked, with what they used last still to be written down.
    gone: Vec<Arc<Caller>>,
}

/// What callers know of the server.
#[derive(Debug)]
struct Shared {
    /// Days since 1970 of UTC, by the database's clock.
    day: AtomicI64,
    /// Processes that serve, this one among them.
    replicas: AtomicU64,
    /// Rung when a key was changed here, or a share of a quota is used up.
    changed: Notify,
    metrics: Arc<Metrics>,
}

impl Keys {
    /// # Errors
    /// As [`first_key`] for the address.
    pub(crate) fn new(
        settings: &KeySettings,
        address: SocketAddr,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>> {
        let shared =
            Shared { day: AtomicI64::new(0), replicas: AtomicU64::new(1), changed: Notify::new(), metrics };
        Ok(Arc::new(Keys {
            rule: settings.rule(address)?,
            metrics_open: settings.metrics_open,
            monitors: settings.monitors.clone(),
            table: RwLock::default(),
            shared: Arc::new(shared),
        }))
    }

    /// Whether every request is one of somebody with a key, whatever is in the database: then no page of a stranger can
    /// make one.
    pub(crate) fn are_always_required(&self) -> bool {
        self.rule == Rule::Always(KeysMode::Required)
    }

    fn mode(&self) -> KeysMode {
        match self.rule {
            Rule::Always(mode) => mode,
            Rule::OnceThereIsOne if self.table().callers.is_empty() => KeysMode::Off,
            Rule::OnceThereIsOne => KeysMode::Required,
        }
    }

    fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who makes a request, if it may be made; nobody when it needs no key and has none.
    fn admit(&self, mode: KeysMode, access: Access, headers: &HeaderMap) -> Result<Option<Arc<Caller>>> {
        let is_open = access == Access::Open || (access == Access::Metrics && self.metrics_open);
        let Some(secret) = secret(headers)? else {
            if is_open || mode == KeysMode::Optional {
                return Ok(None);
            }
            return Err(Error::new(Code::Unauthenticated, "this needs a key").hint(
                "Send one as `Authorization: Bearer …` or `x-api-key`; `bms` takes it from BMS_API_KEY or --api-key-file.",
            ));
        };
        if is_open {
            // Whoever asks whether the server is well need not be known.
            return Ok(None);
        }
        if access == Access::Metrics && self.monitors.iter().any(|monitor| monitor.is(secret)) {
            return Ok(None);
        }
        let caller = self.known(secret)?;
        let (name, role) = (caller.name(), caller.role());
        if !access.is_for(role) {
            let what = format!("the key `{name}` is for role {}, which may not do this", role.as_str());
            return Err(Error::new(Code::PermissionDenied, what)
                .hint(format!("It is for {}.", access.roles().join(", "))));
        }
        Ok(Some(caller))
    }

    /// Whose secret it is. All that are none, or none any more, are told alike.
    fn known(&self, secret: &[u8]) -> Result<Arc<Caller>> {
        let unknown = || Error::new(Code::Unauthenticated, "the key is unknown, was revoked or has expired");
        let id =
            secret.get(..KEY_ID_CHARS).and_then(|id| std::str::from_utf8(id).ok()).ok_or_else(unknown)?;
        let caller = self.table().callers.get(id).cloned().ok_or_else(unknown)?;
        let is_it = blake3::hash(secret) == caller.stored.hash && !caller.has_expired(now_ms());
        is_it.then_some(caller).ok_or_else(unknown)
    }

    /// Takes over keys that were read. What callers have used stays with them.
    fn replace(&self, revision: u64, stored: Vec<StoredKey>) {
        let before = self.table();
        let caller = |stored: StoredKey| {
            let counts = before.callers.get(&stored.key.id).map(|caller| caller.counts.clone());
            let counts = counts.unwrap_or_else(|| Arc::new(Counts::new(&self.shared)));
            (stored.key.id.clone(), Arc::new(Caller::new(stored, counts, self.shared.clone())))
        };
        let callers: BTreeMap<_, _> = stored.into_iter().map(caller).collect();
        let left = before.callers.values().filter(|caller| !callers.contains_key(&caller.stored.key.id));
        let gone = before.gone.iter().filter(|caller| caller.has_unwritten()).chain(left).cloned().collect();
        let table = Table { revision: Some(revision), callers, gone };
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    /// Reads the keys again if any has changed.
    ///
    /// # Errors
    /// Storage errors; the keys stay as they are then.
    pub(crate) async fn look(&self, registry: &Registry) -> Result<()> {
        if self.table().revision == Some(registry.keys_revision().await?) {
            return Ok(());
        }
        let (revision, stored) = registry.stored_keys().await?;
        self.replace(revision, stored);
        Ok(())
    }

    /// Takes over what others counted.
    fn hear(&self, table: &Table, heard: &KeyUses) -> Moment {
        let moment = Moment { day: heard.day, replicas: heard.replicas.max(1), now: Instant::now() };
        for (id, caller) in &table.callers {
            caller.hear(heard.others.get(id), moment);
        }
        // After what each holds is known, so that nobody is refused before.
        self.shared.day.store(moment.day, Ordering::Relaxed);
        self.shared.replicas.store(moment.replicas, Ordering::Relaxed);
        moment
    }

    /// Has changed keys count here at once.
    pub(crate) async fn have_changed(&self, registry: &Registry) -> Result<()> {
        let looked = self.look(registry).await;
        self.shared.changed.notify_one();
        looked
    }
}

impl Shared {
    fn day(&self) -> i64 {
        self.day.load(Ordering::Relaxed)
    }

    fn moment(&self) -> Moment {
        let replicas = self.replicas.load(Ordering::Relaxed).max(1);
        Moment { day: self.day(), replicas, now: Instant::now() }
    }
}

/// The secret in a request's headers.
///
/// # Errors
/// [`Code::Unauthenticated`] when there are two that differ.
fn secret(headers: &HeaderMap) -> Result<Option<&[u8]>> {
    let bearer = headers.get_all(header::AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, secret) = value.as_bytes().split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| secret.trim_ascii())
    });
    let own = headers.get_all(API_KEY).iter().map(|value| value.as_bytes().trim_ascii());
    let mut secrets = bearer.chain(own).filter(|secret| !secret.is_empty());
    let Some(first) = secrets.next() else { return Ok(None) };
    match secrets.all(|other| other == first) {
        true => Ok(Some(first)),
        false => Err(Error::new(Code::Unauthenticated, "the request has two keys that differ")),
    }
}

/// Milliseconds since 1970.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
