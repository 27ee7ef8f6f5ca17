//! Where a process answers, and the way there.
//!
//! A slot on this machine answers on a Unix socket; an engine may answer on a port, here or elsewhere, with TLS when what
//! is between must not listen or answer in its place.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::connections::{Broken, lost};
use crate::again::Again;
use crate::socket::Socket;

/// How long a connection over a network may take to be made, its encryption included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Where a process answers HTTP/1.1.
#[derive(Clone, Debug)]
pub(crate) enum Address {
    /// On a Unix socket of this machine.
    Unix(PathBuf),
    /// On a TCP port.
    Tcp {
        /// Name or number of the machine.
        host: Arc<str>,
        /// The port.
        port: u16,
        /// What proves who answers, and, when its configuration has a certificate, who asks.
        tls: Option<Tls>,
    },
}

/// The encryption of connections to one address.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    /// Whom the certificate of whoever answers has to name.
    name: ServerName<'static>,
}

impl Tls {
    /// Connections as `config` says, to whom has a certificate for `name`: a name of the DNS or an address.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for what is no such name.
    pub(crate) fn new(config: Arc<ClientConfig>, name: &str) -> Result<Self> {
        let name = ServerName::try_from(name.to_owned()).map_err(|e| {
            Error::new(Code::InvalidRequest, format!("no certificate can be for `{name}`")).because(e)
        })?;
        Ok(Tls { config, name })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.name).finish()
    }
}

impl Address {
    /// A fresh connection: requests go into the first, the task of the second carries them.
    pub(super) async fn connect(&self) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), Broken> {
        match self {
            Address::Unix(socket) => handshake(Socket::connect(socket).await.map_err(lost)?).await,
            Address::Tcp { host, port, tls } => {
                let connecting = tokio::time::timeout(CONNECT_WITHIN, over_tcp(host, *port, tls.as_ref()));
                connecting.await.map_err(|_| {
                    lost(format_args!("no connection to {host}:{port} within {CONNECT_WITHIN:?}"))
                })?
            }
        }
    }
}

async fn over_tcp(
    host: &str,
    port: u16,
    tls: Option<&Tls>,
) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), Broken> {
    let stream = TcpStream::connect((host, port)).await.map_err(lost)?;
    // A small request must not wait for the acknowledgement of an earlier one.
    stream.set_nodelay(true).map_err(lost)?;
    match tls {
        None => handshake(stream).await,
        Some(Tls { config, name }) => {
            let connector = TlsConnector::from(config.clone());
            handshake(connector.connect(name.clone(), stream).await.map_err(lost)?).await
        }
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(SendRequest<Full<Bytes>>, AbortHandle), Broken> {
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(lost)?;
    // Its failure shows as the failure of the request it carried.
    let driver = tokio::spawn(Again::new(driver.map(drop)));
    Ok((sender, driver.abort_handle()))
}
