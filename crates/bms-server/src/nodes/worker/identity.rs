//! Who a worker is: its key, which never leaves it, and the certificate the centre gave for it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{JoinSettings, post, pull};
use crate::nodes::authority::{Key, key_id_of, write_over};
use crate::nodes::peer::{self, Own};
use crate::nodes::protocol::{Certified, ENROL, Enrol, RENEW, Renew};
use crate::nodes::{CENTRE_HOST, Centres, JOIN_AGAIN, Token};
use crate::slots::{Connections, Tls};

/// The file in the worker's folder.
const FILE: &str = "worker.json";
/// The share of a certificate's time after which it is renewed.
const RENEW_AFTER: f64 = 0.4;
/// How long joining may take.
const ENROL_WITHIN: Duration = Duration::from_secs(15);

/// What the file holds; keys and certificates in base64.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    name: String,
    /// `HOST:PORT` of the centre: of the replica it spoke with last.
    centre: String,
    /// Of the other replicas it knows.
    #[serde(default)]
    others: Vec<String>,
    #[serde(with = "crate::nodes::secret")]
    key: Zeroizing<String>,
    certificate: String,
    authority: String,
    /// When the certificate was made, in milliseconds since 1970.
    #[serde(default)]
    certified_ms: Option<u64>,
    /// How long it is good for from then on.
    #[serde(default = "usual_seconds")]
    certified_seconds: u64,
}

/// A worker that has joined.
pub(super) struct Identity {
    kept: Kept,
    path: PathBuf,
    key: Key,
    own: Arc<Own>,
    authority: CertificateDer<'static>,
    /// When its certificate was made, when that is known.
    certified: Option<Instant>,
}

impl Identity {
    /// Joins by the token, or goes on as who it is already.
    ///
    /// # Errors
    /// [`Code::Conflict`] when the folder belongs to another worker or centre; what the centre answers; [`Code::NotFound`]
    /// without a token when it has not joined before.
    pub(super) async fn obtain(settings: &JoinSettings) -> Result<Identity> {
        let path = settings.data.join(FILE);
        let kept = read(&path)?;
        if let (Some(kept), Some(name)) = (&kept, &settings.name)
            && kept.name != *name
        {
            return Err(Error::new(
                Code::Conflict,
                format!("`{}` is the worker `{}`", path.display(), kept.name),
            )
            .hint("Leave --name out, or give each worker a --data folder of its own."));
        }
        match (&settings.token, kept) {
            (Some(token), kept) => Identity::enrol(&Token::read(token)?, settings, kept, path).await,
            (None, Some(kept)) => {
                check_is_good(&kept, now_ms())?;
                Identity::of(kept, path, None)
            }
            (None, None) => Err(Error::new(Code::NotFound, "this machine has not joined yet")
                .hint("`bms node token create` at the centre prints a token; give it to `bms node join`.")),
        }
    }

    async fn enrol(
        token: &Token,
        settings: &JoinSettings,
        kept: Option<Kept>,
        path: PathBuf,
    ) -> Result<Identity> {
        let (name, key) = match &kept {
            Some(kept) => {
                let authority = CertificateDer::from(decode(&kept.authority)?);
                if key_id_of(&authority).as_deref() != Some(&token.pin) {
                    let what = format!("`{}` is from another centre than the token", path.display());
                    return Err(Error::new(Code::Conflict, what).hint("Give another --data folder."));
                }
                (kept.name.clone(), Key::read(&Zeroizing::new(decode(&kept.key)?)).map_err(broken)?)
            }
            None => {
                let name =
                    settings.name.clone().or_else(|| settings.usual_name.clone()).ok_or_else(|| {
                        Error::new(Code::InvalidRequest, "a worker needs a name").hint("Name it with --name.")
                    })?;
                (name, Key::generate()?)
            }
        };
        let tls = Tls::new(peer::joining(&token.pin)?, CENTRE_HOST)?;
        let centre = Centres::new(std::slice::from_ref(&token.address), tls)?.now();
        let public = STANDARD.encode(rcgen::PublicKeyData::der_bytes(&key.public()));
        let asked = Enrol { secret: token.secret.clone(), name: name.clone(), key: public };
        let certified: Certified = document(&ask(&centre, ENROL, &asked, ENROL_WITHIN).await?)?;
        if key_id_of(&CertificateDer::from(decode(&certified.authority)?)).as_deref() != Some(&token.pin) {
            return Err(Error::new(Code::Tampered, "the centre names another authority than the token"));
        }
        let kept = Kept {
            name,
            centre: token.address.clone(),
            others: Vec::new(),
            key: Zeroizing::new(STANDARD.encode(key.secret())),
            certificate: certified.certificate,
            authority: certified.authority,
            certified_ms: Some(now_ms()),
            certified_seconds: certified.seconds,
        };
        write(&path, &kept)?;
        Identity::of(kept, path, Some(Instant::now()))
    }

    fn of(kept: Kept, path: PathBuf, certified: Option<Instant>) -> Result<Identity> {
        let key = Key::read(&Zeroizing::new(decode(&kept.key)?)).map_err(broken)?;
        let authority = CertificateDer::from(decode(&kept.authority)?);
        let certificate = CertificateDer::from(decode(&kept.certificate)?);
        let own = Own::new(key.signing()?, certificate, authority.clone());
        Ok(Identity { kept, path, key, own, authority, certified })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.kept.name
    }

    /// Whether its certificate is to be renewed; one of unknown age is.
    pub(super) fn is_due(&self) -> bool {
        let due = Duration::from_secs(self.kept.certified_seconds).mul_f64(RENEW_AFTER);
        self.certified.is_none_or(|at| due < at.elapsed())
    }

    /// Refuses when its certificate has ended: nobody lets it in any more.
    ///
    /// # Errors
    /// [`Code::PermissionDenied`].
    pub(super) fn check_is_good(&self) -> Result<()> {
        check_is_good(&self.kept, now_ms())
    }

    /// The ways to the replicas of the centre.
    pub(super) fn centres(&self) -> Result<Centres> {
        let tls = Tls::new(peer::client(self.own.clone(), &self.authority)?, CENTRE_HOST)?;
        let known: Vec<String> = [&self.kept.centre].into_iter().chain(&self.kept.others).cloned().collect();
        Centres::new(&known, tls)
    }

    /// Keeps where the replicas are, for when this worker is started again.
    pub(super) fn keep(&mut self, centres: &Centres) -> Result<()> {
        let mut addresses = centres.addresses();
        self.kept.centre = addresses.remove(0);
        self.kept.others = addresses;
        write(&self.path, &self.kept)
    }

    /// How the centre connects to it.
    pub(super) fn server(&self) -> Result<Arc<ServerConfig>> {
        peer::server(self.own.clone(), &self.authority, false)
    }

    /// Takes a fresh certificate.
    pub(super) async fn renew(&mut self, centre: &Arc<Connections>) -> Result<()> {
        let key = STANDARD.encode(rcgen::PublicKeyData::der_bytes(&self.key.public()));
        let certified: Certified = document(&ask(centre, RENEW, &Renew { key }, ENROL_WITHIN).await?)?;
        let certificate = CertificateDer::from(decode(&certified.certificate)?);
        self.kept.certificate = certified.certificate;
        (self.kept.certified_ms, self.kept.certified_seconds) = (Some(now_ms()), certified.seconds);
        write(&self.path, &self.kept)?;
        self.own.replace(certificate);
        self.certified = Some(Instant::now());
        Ok(())
    }
}

/// Refuses a certificate that has ended: the centre would, without a word why.
fn check_is_good(kept: &Kept, now_ms: u64) -> Result<()> {
    let Some(since) = kept.certified_ms else { return Ok(()) };
    match now_ms.saturating_sub(since) < kept.certified_seconds.saturating_mul(1000) {
        true => Ok(()),
        false => {
            let (name, time) = (&kept.name, length(kept.certified_seconds));
            let what =
                format!("the certificate of the worker `{name}` has ended: it was away for over {time}");
            Err(Error::new(Code::PermissionDenied, what).hint(JOIN_AGAIN))
        }
    }
}

fn length(seconds: u64) -> String {
    match seconds {
        ..7200 => format!("{seconds} seconds"),
        _ => format!("{} hours", seconds / 3600),
    }
}

/// The time of certificates whose centre or file does not say.
fn usual_seconds() -> u64 {
    limits::WORKER_CERTIFICATE_SECONDS
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Sends a document to the centre; the body of its answer.
pub(super) async fn ask<T: Serialize>(
    centre: &Arc<Connections>,
    path: &str,
    document: &T,
    within: Duration,
) -> Result<Bytes> {
    let written = serde_json::to_vec(document)
        .map_err(|e| Error::new(Code::Internal, "a document is not written").because(e))?;
    pull::answer(centre, post(path, written)?, within).await
}

fn document<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Code::Unavailable, "the centre's answer makes no sense").because(e))
}

fn read(path: &Path) -> Result<Option<Kept>> {
    match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
            Error::new(Code::Tampered, format!("`{}` is no worker's: {e}", path.display()))
                .hint("Remove it and join with a fresh token under another name.")
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("read", path, e)),
    }
}

fn write(path: &Path, kept: &Kept) -> Result<()> {
    let text = serde_json::to_vec(kept)
        .map_err(|e| Error::new(Code::Internal, "a worker's key is not written").because(e))?;
    write_over(path, &text)
}

fn decode(text: &str) -> Result<Vec<u8>> {
    STANDARD
        .decode(text)
        .map_err(|e| Error::new(Code::Tampered, "a key or certificate is no base64").because(e))
}

fn broken(error: Error) -> Error {
    Error::new(Code::Tampered, "the worker's key is broken").because(error)
}

#[cfg(test)]
mod tests;
