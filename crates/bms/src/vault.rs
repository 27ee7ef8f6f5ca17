//! HashiCorp Vault's transit engine (and OpenBao's, which speaks the same protocol) as a key-management service.
//!
//! <https://developer.hashicorp.com/vault/api-docs/secret/transit>: `encrypt`, `decrypt` and `rewrap` with a named key
//! that never leaves the service. The token, the namespace and the certificate authority are taken as Vault's own
//! program takes them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_bundle::seal::{DataKey, Kms};
use bms_wire::{Code, Error, Result, limits};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How to reach a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// A file with the token, instead of the variable VAULT_TOKEN.
    pub(crate) token_file: Option<PathBuf>,
    /// PEM file of the certificate authority.
    pub(crate) authority: Option<PathBuf>,
}

/// One key of a transit engine.
pub(crate) struct Vault {
    /// `https://HOST:PORT/v1/MOUNT/keys/NAME`.
    uri: String,
    /// `https://HOST:PORT/v1/MOUNT`.
    mount: String,
    name: String,
    token: Zeroizing<String>,
    namespace: Option<String>,
    agent: ureq::Agent,
}

impl Vault {
    /// The key at `uri`: `https://HOST:PORT/v1/MOUNT/keys/NAME`, as its API names it. Plain `http` is taken for this
    /// machine only. The token comes from the file or from VAULT_TOKEN.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an address of another form, [`Code::Unauthenticated`] without a token.
    pub(crate) fn new(uri: &str, access: &Access) -> Result<Vault> {
        let (mount, name) = parse(uri)?;
        let token = match &access.token_file {
            Some(path) => token_from(path)?,
            None => Zeroizing::new(std::env::var("VAULT_TOKEN").unwrap_or_default()),
        };
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::new(Code::Unauthenticated, format!("there is no token for `{uri}`"))
                .hint("Set VAULT_TOKEN, or name a file with --kms-token-file."));
        }
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(TIMEOUT))
            .user_agent(concat!("bms/", env!("CARGO_PKG_VERSION")));
        if uri.starts_with("https://") {
            let tls = bms_wire::tls::blocking(access.authority.as_deref());
            config = config.tls_config(tls.map_err(|e| match e.code() {
                Code::NotFound => e.hint("Name a certificate authority with --kms-ca."),
                _ => e,
            })?);
        }
        let namespace = std::env::var("VAULT_NAMESPACE").ok().filter(|name| !name.is_empty());
        let agent = config.build().into();
        Ok(Vault { uri: uri.to_owned(), mount, name, token, namespace, agent })
    }

    fn call(&self, verb: &str, body: &Value) -> Result<Answer> {
        let doing = |e: Error| e.while_doing(format_args!("ask the key-management service `{}`", self.uri));
        let url = format!("{}/{verb}/{}", self.mount, self.name);
        let mut request = self.agent.post(&url).header("x-vault-token", self.token.as_str());
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        let mut response = request.send_json(body).map_err(|e| {
            let what = format!("it cannot be reached: {e}");
            doing(Error::new(Code::Unavailable, what).hint("Check the address, the network and --kms-ca."))
        })?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(limits::STATEMENT_BYTES_MAX as u64)
            .read_to_string()
            .map(Zeroizing::new)
            .map_err(|e| doing(Error::new(Code::Unavailable, format!("its answer broke off: {e}"))))?;
        if status != 200 {
            return Err(doing(refused(status, &text)));
        }
        serde_json::from_str(&text).map_err(|_| {
            // What it says may hold a key: it does not go into a message.
            doing(
                Error::new(Code::Unavailable, "its answer is not that of a transit engine")
                    .hint("Name the key as https://HOST:PORT/v1/MOUNT/keys/NAME."),
            )
        })
    }

    fn ciphertext(&self, verb: &str, body: &Value) -> Result<String> {
        let answer = self.call(verb, body)?.data.ciphertext;
        answer.ok_or_else(|| Error::new(Code::Unavailable, format!("`{}` answered without a key", self.uri)))
    }
}

impl Kms for Vault {
    fn uri(&self) -> &str {
        &self.uri
    }

    fn wrap(&self, key: &DataKey) -> Result<String> {
        let plaintext = Zeroizing::new(STANDARD.encode(key.expose()));
        self.ciphertext("encrypt", &json!({ "plaintext": *plaintext }))
    }

    fn unwrap(&self, wrapped: &str) -> Result<DataKey> {
        let answer = self.call("decrypt", &json!({ "ciphertext": wrapped }))?.data.plaintext;
        let wrong = || Error::new(Code::Unavailable, format!("`{}` answered without a key", self.uri));
        let text = Zeroizing::new(answer.ok_or_else(wrong)?);
        let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| wrong())?);
        DataKey::from_bytes(&bytes)
    }

    fn rewrap(&self, wrapped: &str) -> Result<String> {
        self.ciphertext("rewrap", &json!({ "ciphertext": wrapped }))
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    ciphertext: Option<String>,
    plaintext: Option<String>,
}

/// What a refusal of the service means.
fn refused(status: u16, text: &str) -> Error {
    #[derive(Deserialize)]
    struct Refusal {
        errors: Vec<String>,
    }
    let why: Vec<String> =
        serde_json::from_str::<Refusal>(text).map(|refusal| refusal.errors).unwrap_or_default();
    let why: String = why.join("; ").chars().take(300).collect();
    let (code, hint) = match status {
        403 => {
            (Code::PermissionDenied, "Check the token and its policy: it needs encrypt, decrypt or rewrap.")
        }
        400 => (Code::InvalidRequest, "The key may be another, or its version too old to decrypt."),
        404 => (Code::NotFound, "Check the mount and the name of the key."),
        _ => (Code::Unavailable, "The service may be sealed, standing by or overloaded; try again."),
    };
    Error::new(code, format!("it answered with status {status}: {why}")).hint(hint)
}

/// Mount and name of the key.
fn parse(uri: &str) -> Result<(String, String)> {
    let wrong = || {
        Error::new(Code::InvalidRequest, format!("`{uri}` is not the address of a transit key"))
            .hint("Name it as https://HOST:PORT/v1/MOUNT/keys/NAME; http:// is for this machine only.")
    };
    let rest = match (uri.strip_prefix("https://"), uri.strip_prefix("http://")) {
        (Some(rest), _) => rest,
        (_, Some(rest)) if is_loopback(rest) => rest,
        _ => return Err(wrong()),
    };
    let (mount, name) = uri.split_once("/keys/").ok_or_else(wrong)?;
    let plain = |text: &str| {
        !matches!(text, "" | "." | "..")
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.'))
    };
    let (_, path) = rest.split_once("/v1/").ok_or_else(wrong)?;
    let path = path.split_once("/keys/").map_or(path, |(path, _)| path);
    match plain(name) && path.split('/').all(plain) {
        true => Ok((mount.to_owned(), name.to_owned())),
        false => Err(wrong()),
    }
}

fn is_loopback(rest: &str) -> bool {
    let host = rest.split('/').next().unwrap_or(rest);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    matches!(host, "127.0.0.1" | "localhost" | "[::1]")
}

fn token_from(path: &Path) -> Result<Zeroizing<String>> {
    let text = crate::secrets::read(path)?;
    String::from_utf8(text.to_vec())
        .map(Zeroizing::new)
        .map_err(|_| Error::new(Code::InvalidRequest, format!("`{}` holds no token", path.display())))
}

#[cfg(test)]
mod tests;
