//! The encryption of a server's own port.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_server::Tls;
use bms_wire::client::Client;
use bms_wire::{Code, Error, Result};
use clap::Args;
use ureq::tls::TlsConfig;

/// How long the server may take to say that it lives.
const PROBE_WITHIN: Duration = Duration::from_secs(3);

/// The certificate a server shows.
#[derive(Debug, Args)]
pub(crate) struct TlsOptions {
    /// The server's certificate, then those between it and its authority, PEM: HTTPS is spoken then, and nothing else. Files that
    /// change are taken over.
    #[arg(long, env = "BMS_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key: PKCS #8, PKCS #1 or SEC1, PEM.
    #[arg(long, env = "BMS_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl TlsOptions {
    /// What the files hold; `None` when none are named.
    pub(crate) fn load(&self) -> Result<Option<Tls>> {
        match (&self.tls_cert, &self.tls_key) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Tls::load(certificate.clone(), key.clone()).map(Some),
            _ => Err(Error::new(Code::InvalidRequest, "--tls-cert and --tls-key go together")),
        }
    }

    /// How clients ask.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls_cert.is_some() { "https" } else { "http" }
    }
}

/// Asks the server of this very process whether it answers.
#[derive(Clone, Debug)]
pub(crate) enum Probe {
    Plain(Client),
    /// Its certificate is for the name others call it by, and who listens at the port is this process: there is nobody to mistrust,
    /// and nothing secret is sent.
    Encrypted {
        agent: ureq::Agent,
        url: String,
    },
}

impl Probe {
    pub(crate) fn new(url: &str) -> Result<Probe> {
        if !url.starts_with("https://") {
            return Client::new(url).map(Probe::Plain);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls =
            TlsConfig::builder().disable_verification(true).unversioned_rustls_crypto_provider(provider);
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .proxy(None)
            .max_redirects(0)
            .timeout_global(Some(PROBE_WITHIN));
        Ok(Probe::Encrypted { agent: config.build().into(), url: format!("{url}/v2/health/live") })
    }

    pub(crate) fn is_live(&self) -> bool {
        match self {
            Probe::Plain(client) => client.is_live(),
            Probe::Encrypted { agent, url } => agent.get(url).call().is_ok(),
        }
    }
}
