//! TLS at the port where clients ask.
//!
//! A connection is accepted as it comes; its handshake is done by who reads from it first, in the connection's own task and
//! within the time a request's head may take. So clients that are slow over it hold up themselves alone.

mod certificate;
mod shown;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::serve::Listener;
use bms_wire::{Code, Error, Result, limits};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::{FastPath, Terms};
use crate::metrics::Metrics;
use shown::Shown;

/// What protocols are offered, the better one first, <https://www.rfc-editor.org/rfc/rfc7301>.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// The first byte of a handshake, <https://www.rfc-editor.org/rfc/rfc8446#section-5.1>.
const HANDSHAKE: u8 = 22;

/// How a server encrypts: its certificate and key, which are taken over again when their files change.
#[derive(Clone, Debug)]
pub struct Tls {
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// The certificate in the first file, PEM, with those between it and its authority behind it, and its key in the second:
    /// PKCS #8, PKCS #1 or SEC1, PEM.
    ///
    /// # Errors
    /// What the system says of a file; [`Code::InvalidRequest`] for one that holds something else, for a key that belongs to
    /// another certificate, and for a certificate that has expired.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let shown = Arc::new(Shown::load(certificate, key)?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| Error::new(Code::Internal, "TLS cannot be set up").because(e))?;
        let mut config = config.with_no_client_auth().with_cert_resolver(shown.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Tls { shown, config: Arc::new(config) })
    }

    /// As [`super::serve`], encrypted, with a look at the certificate's files every second.
    pub(crate) async fn serve(
        &self,
        listener: impl Listener<Io = TcpStream>,
        router: Router,
        fast: Option<impl FastPath>,
        terms: Terms,
        metrics: &Metrics,
        shutdown: impl Future<Output = ()>,
    ) -> Result<usize> {
        let expiry = metrics.certificate_expiry()?;
        let watching = tokio::spawn(shown::watch(self.shown.clone(), expiry));
        let listener = Encrypted { listener, acceptor: TlsAcceptor::from(self.config.clone()) };
        let cut_off = super::serve(listener, router, fast, terms, shutdown).await;
        watching.abort();
        Ok(cut_off)
    }
}

/// A listener whose connections are encrypted.
struct Encrypted<L> {
    listener: L,
    acceptor: TlsAcceptor,
}

impl<L: Listener<Io = TcpStream>> Listener for Encrypted<L> {
    type Io = Connection;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Connection, L::Addr) {
        let (stream, from) = self.listener.accept().await;
        (Connection(State::Silent { stream, acceptor: self.acceptor.clone() }), from)
    }

    fn local_addr(&self) -> io::Result<L::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that is encrypted once it was read from or written to.
struct Connection(State);

enum State {
    /// Nothing came yet.
    Silent {
        stream: TcpStream,
        acceptor: TlsAcceptor,
    },
    Handshake(Box<Accept<TcpStream>>),
    Open(Box<TlsStream<TcpStream>>),
    /// What came is plain HTTP: it is told so.
    Plain(Plain),
    /// Of no use any more.
    Over,
}

impl Connection {
    /// Done once the connection is encrypted, or will never be.
    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<&mut TlsStream<TcpStream>>> {
        while !matches!(self.0, State::Open(_)) {
            let next = match &mut self.0 {
                State::Silent { stream, .. } => {
                    let first = ready!(poll_first(stream, context));
                    match (std::mem::replace(&mut self.0, State::Over), first?) {
                        (State::Silent { stream, acceptor }, Some(HANDSHAKE)) => {
                            State::Handshake(Box::new(acceptor.accept(stream)))
                        }
                        (State::Silent { stream, .. }, Some(b'A'..=b'Z')) => {
                            State::Plain(Plain { stream, told: 0, read: 0 })
                        }
                        _ => State::Over,
                    }
                }
                State::Handshake(accept) => {
                    let accepted = ready!(Pin::new(accept.as_mut()).poll(context));
                    // What failed is over: it must not be asked again.
                    self.0 = State::Over;
                    let stream = accepted.inspect_err(|e| tracing::debug!("a handshake failed: {e}"))?;
                    State::Open(Box::new(stream))
                }
                State::Plain(plain) => {
                    let told = ready!(plain.poll_tell(context));
                    self.0 = State::Over;
                    told?;
                    State::Over
                }
                State::Open(_) | State::Over => return Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
            };
            self.0 = next;
        }
        match &mut self.0 {
            State::Open(stream) => Poll::Ready(Ok(stream)),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

/// The first byte, which is read again later; `None` when the other side sends none.
fn poll_first(stream: &TcpStream, context: &mut Context<'_>) -> Poll<io::Result<Option<u8>>> {
    let mut first = [0];
    let length = ready!(stream.poll_peek(context, &mut ReadBuf::new(&mut first)))?;
    Poll::Ready(Ok((length != 0).then_some(first[0])))
}

/// Tells who speaks plain HTTP that TLS is spoken here.
struct Plain {
    stream: TcpStream,
    /// Bytes of the answer that are out.
    told: usize,
    /// Bytes of the request that were taken since.
    read: usize,
}

impl Plain {
    fn poll_tell(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut stream = Pin::new(&mut self.stream);
        while self.told < REFUSAL.len() {
            self.told += ready!(stream.as_mut().poll_write(context, &REFUSAL[self.told..]))?;
        }
        ready!(stream.as_mut().poll_shutdown(context))?;
        // A connection that is closed with bytes unread takes the answer with it.
        let mut bytes = [0; 4096];
        while self.read < limits::PLAIN_BYTES_MAX {
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(stream.as_mut().poll_read(context, &mut buffer))?;
            match buffer.filled().len() {
                0 => break,
                length => self.read += length,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The answer to who speaks plain HTTP.
static REFUSAL: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let error =
        Error::new(Code::InvalidRequest, "HTTPS is spoken at this port, and the request came in plain HTTP")
            .hint("Use https:// in the address.");
    let body = serde_json::to_string(&error.body()).unwrap_or_default();
    let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
});

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_open(context))?;
        Pin::new(stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.poll_open(context))?;
        Pin::new(stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = ready!(self.poll_open(context))?;
        Pin::new(stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = ready!(self.poll_open(context))?;
        Pin::new(stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            State::Open(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
            // There is nothing to say farewell to.
            _ => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
mod tests;
