//! Asking an engine whether it is well.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result, tls};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Full;
use rustls::ClientConfig;

use super::super::address::{Address, Tls};
use crate::engines::{Engine, Runs};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(2);

/// Asks one engine. Each time over a fresh connection: what cannot take one is not well, and what it says does not mix
/// with answers to requests.
#[derive(Debug)]
pub(super) struct Probe {
    address: Address,
    within: Duration,
    requests: Vec<Request<Full<Bytes>>>,
}

/// How an engine is not well.
#[derive(Debug)]
pub(super) enum Unwell {
    /// Nobody listens, or the connection breaks.
    Refused(String),
    /// It does not answer in time.
    Silent,
    /// It says so.
    Says(StatusCode),
}

impl fmt::Display for Unwell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unwell::Refused(why) => write!(f, "cannot be reached: {why}"),
            Unwell::Silent => f.write_str("does not say whether it is well"),
            Unwell::Says(status) => write!(f, "is not well: it answers {status} when asked"),
        }
    }
}

impl Probe {
    pub(super) fn new(engine: &Engine, address: Address) -> Result<Self> {
        let request = |path: &String| {
            let mut request = super::super::translate::builder(engine, http::Method::GET, path)?;
            // Nothing goes over this connection twice.
            if let Some(headers) = request.headers_mut() {
                headers.insert(header::CONNECTION, http::HeaderValue::from_static("close"));
            }
            let invalid =
                |e| Error::new(Code::Internal, "an engine cannot be asked for its health").because(e);
            request.body(Full::default()).map_err(invalid)
        };
        let requests = engine.health.iter().map(request).collect::<Result<_>>()?;
        Ok(Probe { address, within: WITHIN.min(engine.silent_after / 4), requests })
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks at each of its paths.
    pub(super) async fn ask(&self) -> std::result::Result<(), Unwell> {
        for request in &self.requests {
            let asked = tokio::time::timeout(self.within, self.ask_one(request.clone())).await;
            match asked {
                Err(_) => return Err(Unwell::Silent),
                Ok(Err(why)) => return Err(Unwell::Refused(why)),
                Ok(Ok(StatusCode::OK)) => {}
                Ok(Ok(status)) => return Err(Unwell::Says(status)),
            }
        }
        Ok(())
    }

    async fn ask_one(&self, request: Request<Full<Bytes>>) -> std::result::Result<StatusCode, String> {
        let connected = self.address.connect().await;
        let (mut sender, driver) = connected.map_err(|broken| broken.to_string())?;
        let answer = sender.send_request(request).await;
        driver.abort();
        answer.map(|answer| answer.status()).map_err(|e| e.to_string())
    }
}

/// The address of an engine elsewhere.
pub(super) fn address(engine: &Engine) -> Result<Address> {
    let Runs::Elsewhere { url, authorities } = &engine.runs else {
        return Err(Error::new(Code::Internal, "an engine here has an address of its own"));
    };
    // The file's checks saw to a host and one of the two schemes, which have usual ports.
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or_default();
    let tls = match url.scheme() {
        "https" => Some(Tls::new(trusting(authorities.as_deref())?, host)?),
        _ => None,
    };
    Ok(Address::Tcp { host: host.into(), port, tls })
}

/// TLS with the certificate authorities of a PEM file, or those the system trusts.
fn trusting(authorities: Option<&Path>) -> Result<Arc<ClientConfig>> {
    tls::config(authorities).map(Arc::new).map_err(|e| match authorities {
        None => e.hint("Name one for the engine: ca_file = \"FILE\"."),
        Some(_) => e,
    })
}
