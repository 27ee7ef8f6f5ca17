//! Connections by TLS between centre and workers: each side shows a certificate of the one authority.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::serve::Listener;
use bms_wire::{Code, Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConfig, ResolvesClientCert, Resumption, WebPkiServerVerifier, verify_server_name,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{
    ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::CENTRE_HOST;
use super::authority::key_id_of;
use crate::validity::validity;

/// Handshakes under way at a time; others wait to be accepted.
const HANDSHAKES_MAX: usize = 64;
/// How long one may take.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// The pause after a connection could not be accepted, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A key with its certificate, which can be replaced by a fresher one.
#[derive(Debug)]
pub(crate) struct Own(RwLock<Arc<CertifiedKey>>);

impl Own {
    pub(crate) fn new(
        key: Arc<dyn SigningKey>,
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Arc<Self> {
        Arc::new(Own(RwLock::new(Arc::new(CertifiedKey::new(vec![certificate, authority], key)))))
    }

    /// Shows this certificate from now on.
    pub(crate) fn replace(&self, certificate: CertificateDer<'static>) {
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let authority = own.cert.iter().skip(1).cloned();
        let chain = std::iter::once(certificate).chain(authority).collect();
        *own = Arc::new(CertifiedKey::new(chain, own.key.clone()));
    }

    fn now(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// How to connect, as `own`, to others with a certificate of the authority.
pub(crate) fn client(own: Arc<Own>, authority: &CertificateDer<'static>) -> Result<Arc<ClientConfig>> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots(authority)?)
        .with_client_cert_resolver(own);
    // What is resumed shows no certificate: it would go on with one that has ended, or was replaced.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// How to be connected to, as `own`. Those without a certificate are let in when `anybody` is, those with one of another
/// authority never.
pub(crate) fn server(
    own: Arc<Own>,
    authority: &CertificateDer<'static>,
    anybody: bool,
) -> Result<Arc<ServerConfig>> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), provider());
    let verifier = if anybody { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier
        .build()
        .map_err(|e| Error::new(Code::Internal, "no certificate can be checked").because(e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    // For the same reason as in `client`.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How to connect to a centre of which only the pin of its authority is known.
pub(crate) fn joining(pin: &str) -> Result<Arc<ClientConfig>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pin: pin.to_owned(), provider: provider() }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(unusable)?;
    Ok(roots)
}

fn unusable(error: rustls::Error) -> Error {
    Error::new(Code::Internal, format!("TLS cannot be used so: {error}")).because(error)
}

/// Believes the authority with a known public key, and nobody else.
#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, rustls::Error> {
        let is_pinned = |c: &&CertificateDer<'_>| key_id_of(c).is_some_and(|id| id == self.pin);
        let Some(authority) = intermediates.iter().find(is_pinned) else {
            return Err(rustls::Error::General("the centre's authority is not the one in the token".into()));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone());
        let verifier = verifier.build().map_err(|e| rustls::Error::General(e.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 is spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whom a connection is with, by the certificate it showed.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// Hex SHA-256 of its public key; none when it showed no certificate.
    pub(crate) key_id: Option<String>,
    /// It is a centre.
    pub(crate) is_centre: bool,
    /// Until when the certificate is good, in seconds since 1970.
    until: Option<i64>,
}

impl Peer {
    /// Whom this connection is with.
    pub(crate) fn of(stream: &TlsStream<TcpStream>) -> Peer {
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let centre = ServerName::try_from(CENTRE_HOST);
        let is_centre = certificate.zip(centre.ok()).is_some_and(|(certificate, centre)| {
            let parsed = ParsedCertificate::try_from(certificate);
            parsed.is_ok_and(|parsed| verify_server_name(&parsed, &centre).is_ok())
        });
        let until = certificate.and_then(|certificate| validity(certificate).ok()).map(|(_, until)| until);
        Peer { key_id: certificate.and_then(key_id_of), is_centre, until }
    }

    /// Whether the certificate it showed is good no longer, at this time in seconds since 1970: a connection may last longer
    /// than that.
    pub(crate) fn has_ended(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until < now)
    }
}

/// Accepts connections by TLS. One that takes long over its handshake keeps no other waiting.
pub(crate) struct TlsListener {
    incoming: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    accepting: JoinHandle<()>,
}

impl TlsListener {
    pub(crate) fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        let (sender, incoming) = mpsc::channel(1);
        let accepting = tokio::spawn(accept(listener, config, sender));
        TlsListener { incoming, accepting }
    }
}

impl Drop for TlsListener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let acceptor = TlsAcceptor::from(config);
    let places = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::debug!("failed to accept a worker's connection: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            // A small answer must not wait for the acknowledgement of an earlier one.
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(sender.send((stream, from)).await),
                Ok(Err(e)) => tracing::info!(%from, "a connection to the workers' port was refused: {e}"),
                Err(_) => tracing::info!(%from, "a connection to the workers' port took too long"),
            }
            drop(place);
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.incoming.recv().await {
            Some(accepted) => accepted,
            // Its sender lives as long as the listener.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests;
