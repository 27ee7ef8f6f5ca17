//! The certificate that is shown to clients, and its replacement when its files change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bms_wire::{Code, Error, Result, limits};
use prometheus::IntGauge;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::certificate::Pair;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is said that a certificate ends soon, or has ended.
const REMIND_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is seen of a file without reading it: device, number, time of the last change in seconds and nanoseconds, length.
type Trace = (u64, u64, i64, i64, u64);

/// A certificate with its files. Connections keep the one they began with.
#[derive(Debug)]
pub(super) struct Shown {
    certificate: PathBuf,
    key: PathBuf,
    pair: RwLock<Pair>,
    /// The files when they were read.
    read: (Option<Trace>, Option<Trace>),
}

impl Shown {
    pub(super) fn load(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        // Looked at before they are read: what changes meanwhile is read again.
        let read = (trace(&certificate), trace(&key));
        let pair = RwLock::new(Pair::load(&certificate, &key, now())?);
        Ok(Shown { certificate, key, pair, read })
    }

    fn now(&self) -> Pair {
        self.pair.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, pair: Pair) {
        *self.pair.write().unwrap_or_else(PoisonError::into_inner) = pair;
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now().key)
    }
}

/// Looks at the files for ever, takes over what changed, says when the certificate ends soon and shows it in `expiry`, in seconds
/// since 1970.
pub(super) async fn watch(shown: Arc<Shown>, expiry: IntGauge) {
    let mut watch = Watch { read: shown.read, refused: None, reminded: None, shown, expiry };
    watch.took_over();
    loop {
        watch.remind();
        tokio::time::sleep(LOOK_EVERY).await;
        watch.look().await;
    }
}

struct Watch {
    shown: Arc<Shown>,
    /// The files when what is shown was read from them.
    read: (Option<Trace>, Option<Trace>),
    /// Why they were not taken over the last time.
    refused: Option<String>,
    /// When it was said that the certificate ends soon, or that it has ended.
    reminded: Option<(Instant, bool)>,
    expiry: IntGauge,
}

impl Watch {
    /// Takes over files that have changed. A pair that cannot be shown, such as one that is half written, is read again until it
    /// can; why not is said once.
    async fn look(&mut self) {
        let shown = self.shown.clone();
        let traces = (trace(&shown.certificate), trace(&shown.key));
        if traces == self.read {
            self.refused = None;
            return;
        }
        let of = shown.clone();
        let read = tokio::task::spawn_blocking(move || Pair::load(&of.certificate, &of.key, now()));
        let pair = read
            .await
            .unwrap_or_else(|e| Err(Error::new(Code::Internal, "the certificate was not read").because(e)));
        match pair {
            Ok(pair) => {
                self.read = traces;
                self.refused = None;
                shown.replace(pair);
                self.reminded = None;
                self.took_over();
            }
            Err(error) => {
                let why = error.to_string();
                if self.refused.as_ref() != Some(&why) {
                    tracing::warn!("the certificate before stays: {why}");
                }
                self.refused = Some(why);
            }
        }
    }

    fn took_over(&self) {
        let pair = self.shown.now();
        self.expiry.set(pair.until);
        let (file, days) = (self.shown.certificate.display(), (pair.until - now()) / 86_400);
        tracing::info!(%file, days, "the certificate is shown to clients");
        if pair.key_is_open {
            let file = self.shown.key.display();
            tracing::warn!(%file, "every user of this machine can read the server's key; take that from them: chmod o-r");
        }
        if now() < pair.from {
            tracing::warn!(%file, "the certificate is not valid yet: clients refuse it until it is; check this machine's clock");
        }
    }

    /// Says, once a day, that the certificate ends soon or has ended.
    fn remind(&mut self) {
        let left = self.shown.now().until - now();
        let warning = i64::try_from(limits::CERTIFICATE_WARNING_SECONDS).unwrap_or(i64::MAX);
        let has_ended = left <= 0;
        let is_said = |(at, ended): (Instant, bool)| at.elapsed() < REMIND_EVERY && ended == has_ended;
        if warning < left || self.reminded.is_some_and(is_said) {
            return;
        }
        self.reminded = Some((Instant::now(), has_ended));
        let file = self.shown.certificate.display();
        match has_ended {
            true => {
                tracing::error!(%file, "the certificate has expired: clients refuse it until its file holds another")
            }
            false => {
                tracing::warn!(%file, days = left / 86_400, "the certificate expires soon; another in its file is taken over")
            }
        }
    }
}

/// `None` for a file that is not there.
fn trace(path: &Path) -> Option<Trace> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
