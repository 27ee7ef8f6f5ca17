//! Leases: a model's key for one edge node, for a time, without a network.
//!
//! The centre wraps the data key for the node's key pair and signs until when it may be used. The program on the node
//! keeps to that; whoever owns the machine and changes the program does not have to, as with every offline expiry.
//! What it does find is a clock that is set back: the latest time seen is kept in a file, authenticated with the
//! node's key, and time before that (or before the lease was made) is refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::cipher::DataKey;
use super::{Recipient, SealInfo, To};
use crate::statement::{self, Statement};
use crate::{PublicKey, SigningKey, folder};

const KIND: &str = "application/vnd.bms.lease.v1+json";
const SCHEMA: u32 = 1;
/// How far a clock may be off before it counts as set back.
const TOLERANCE_MS: i64 = 5 * 60 * 1000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Bytes of the file of the latest time.
const CLOCK_BYTES_MAX: u64 = 4096;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeaseTerms {
    schema: u32,
    /// The edge node.
    pub node: String,
    /// The model.
    pub model: String,
    /// Hex of the seal's id.
    pub seal: String,
    /// When it was made, in milliseconds since 1970.
    pub issued_ms: i64,
    /// From when on it is good.
    pub not_before_ms: i64,
    /// Until when.
    pub expires_ms: i64,
    recipient: Recipient,
}

/// A lease as read. Nothing vouches for it until [`Lease::verify`].
#[derive(Clone, Debug)]
pub struct Lease {
    statement: Statement,
    terms: LeaseTerms,
}

impl Lease {
    /// Makes a lease: the bytes of its file.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when the times make no sense.
    pub(crate) fn issue(
        (info, model, key): (&SealInfo, &str, &DataKey),
        (node, node_key): (&str, &PublicKey),
        (issued_ms, not_before_ms, expires_ms): (i64, i64, i64),
        signer: &SigningKey,
    ) -> Result<Vec<u8>> {
        crate::check_name(node)?;
        let terms = LeaseTerms {
            schema: SCHEMA,
            node: node.to_owned(),
            model: model.to_owned(),
            seal: info.id.clone(),
            issued_ms,
            not_before_ms,
            expires_ms,
            recipient: Recipient::wrap(&To::Key(node_key.clone()), &info.seal_id()?, key)?,
        };
        terms.validate().map_err(|e| Error::new(Code::InvalidRequest, e.message().to_owned()))?;
        statement::sign(KIND, &terms, signer)
    }

    /// Parses a lease.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn parse(bytes: &[u8]) -> Result<Lease> {
        let statement = Statement::parse(KIND, bytes, limits::STATEMENT_BYTES_MAX)
            .map_err(|e| e.while_doing("read a lease"))?;
        let terms: LeaseTerms = statement.body()?;
        terms.validate()?;
        Ok(Lease { statement, terms })
    }

    /// Reads a lease from its file.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Io`] or as [`Lease::parse`].
    pub fn load(path: &Path) -> Result<Lease> {
        let real = path.canonicalize().map_err(|e| Error::io("read the lease", path, e))?;
        Lease::parse(&folder::read_file(&real, limits::STATEMENT_BYTES_MAX as u64)?)
    }

    /// Checks that `key` signed it.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        self.statement.verify(key)
    }

    /// The id of the key that is said to have signed.
    pub fn key_id(&self) -> &str {
        self.statement.key_id()
    }

    /// What it says.
    pub fn terms(&self) -> &LeaseTerms {
        &self.terms
    }
}

impl LeaseTerms {
    fn validate(&self) -> Result<()> {
        let refused =
            |what: String| Error::new(Code::SignatureInvalid, format!("a lease is refused: {what}"));
        if self.schema != SCHEMA {
            return Err(refused(format!("schema {} is not supported, only {SCHEMA}", self.schema)));
        }
        if self.expires_ms <= self.not_before_ms || self.not_before_ms < 0 || self.issued_ms < 0 {
            return Err(refused("it ends before it begins".to_owned()));
        }
        let longest = i64::from(limits::LEASE_DAYS_MAX) * DAY_MS;
        if longest < self.expires_ms.saturating_sub(self.issued_ms) {
            return Err(refused(format!("it lasts longer than {} days", limits::LEASE_DAYS_MAX)));
        }
        self.recipient.validate()
    }

    /// Whether the lease is good at this time.
    ///
    /// # Errors
    /// [`Code::LeaseExpired`].
    pub fn check(&self, now_ms: i64) -> Result<()> {
        let why = if now_ms < self.issued_ms - TOLERANCE_MS {
            "the clock stands before the day the lease was made"
        } else if now_ms < self.not_before_ms {
            "it is not good yet"
        } else if self.expires_ms <= now_ms {
            "it has expired"
        } else {
            return Ok(());
        };
        Err(expired(&self.model, why))
    }
}

fn expired(model: &str, why: &str) -> Error {
    Error::new(Code::LeaseExpired, format!("the lease of `{model}` does not hold: {why}"))
        .hint("Set the clock right, or get a new lease from the centre: `bms lease issue`.")
}

/// A lease with the key it is for and the clock it is measured by.
#[derive(Debug)]
pub struct LeasedKey {
    lease: Lease,
    key: Arc<SigningKey>,
    clock: Clock,
}

impl LeasedKey {
    /// A lease that was verified by the caller's allow-list, for the node with this key.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the file of the clock was changed.
    pub fn new(lease: Lease, key: Arc<SigningKey>, clock_file: &Path) -> Result<LeasedKey> {
        let clock = Clock::open(clock_file, &key)?;
        Ok(LeasedKey { lease, key, clock })
    }

    /// What the lease says.
    pub fn terms(&self) -> &LeaseTerms {
        &self.lease.terms
    }

    /// Whether the lease is good now. Remembers the time.
    ///
    /// # Errors
    /// [`Code::LeaseExpired`]; [`Code::Io`] when the time cannot be kept.
    pub fn check(&self) -> Result<()> {
        self.check_at(system_ms())
    }

    fn check_at(&self, system_ms: i64) -> Result<()> {
        let now = self.clock.now(system_ms).map_err(|e| match e.code() {
            Code::LeaseExpired => expired(&self.terms().model, e.message()),
            _ => e,
        })?;
        self.terms().check(now)
    }

    /// The data key, when the lease is of this seal and good.
    pub(crate) fn open(&self, info: &SealInfo) -> Result<Option<DataKey>> {
        if self.terms().seal != info.id {
            return Ok(None);
        }
        self.check()?;
        match self.terms().recipient.open_with_key(&info.seal_id()?, &self.key)? {
            Some(key) => Ok(Some(key)),
            None => Err(Error::new(Code::KeyMissing, "the lease is for the key of another node")),
        }
    }
}

/// A clock that is not set back unseen.
#[derive(Debug)]
pub struct Clock {
    path: PathBuf,
    key: hmac::Key,
    latest: Mutex<(i64, Instant)>,
}

impl Clock {
    /// The clock whose latest time is kept in `path`.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the file was changed.
    pub fn open(path: &Path, key: &SigningKey) -> Result<Clock> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &*key.secret_for("bms lease clock 1"));
        let latest = match folder::read_file(path, CLOCK_BYTES_MAX) {
            Ok(bytes) => read_time(&bytes, &key).ok_or_else(|| {
                Error::new(Code::Tampered, format!("the time kept in `{}` was changed", path.display()))
                    .hint("Get a new lease from the centre, and keep it in an empty folder.")
            })?,
            Err(e) if e.code() == Code::NotFound => 0,
            Err(e) => return Err(e),
        };
        Ok(Clock { path: path.to_owned(), key, latest: Mutex::new((latest, Instant::now())) })
    }

    /// The time, at least the latest ever seen plus what has passed since in this process.
    ///
    /// # Errors
    /// [`Code::LeaseExpired`] when the system's clock was set back; [`Code::Io`] or [`Code::StorageFull`].
    pub fn now(&self, system_ms: i64) -> Result<i64> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = i64::try_from(latest.1.elapsed().as_millis()).unwrap_or(i64::MAX);
        let known = latest.0.saturating_add(if latest.0 == 0 { 0 } else { passed });
        if system_ms < known.saturating_sub(TOLERANCE_MS) {
            let behind = (known - system_ms) / 1000;
            return Err(Error::new(
                Code::LeaseExpired,
                format!("the clock was set back by {behind} seconds"),
            ));
        }
        let now = known.max(system_ms);
        self.keep(now)?;
        *latest = (now, Instant::now());
        Ok(now)
    }

    fn keep(&self, now: i64) -> Result<()> {
        use std::io::Write;
        let tag = hex::encode(hmac::sign(&self.key, now.to_string().as_bytes()));
        let parent = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            write!(file, "{now} {tag}")?;
            file.as_file().sync_all()?;
            file.persist(&self.path).map_err(|e| e.error).map(drop)
        };
        write().map_err(|e: std::io::Error| Error::io("keep the time in", &self.path, e))
    }
}

fn read_time(bytes: &[u8], key: &hmac::Key) -> Option<i64> {
    let (time, tag) = std::str::from_utf8(bytes).ok()?.split_once(' ')?;
    hmac::verify(key, time.as_bytes(), &hex::decode(tag).ok()?).ok()?;
    time.parse().ok().filter(|time| *time >= 0)
}

/// Milliseconds since 1970 by the system's clock.
pub(crate) fn system_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
