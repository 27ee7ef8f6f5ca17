//! TLS at the server's port: both versions of HTTP, certificates that are replaced, and those who do not speak it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_server::Tls;
use bms_wire::client::Client;
use bms_wire::{Code, Result};
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256,
};
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{SOON, Server};

/// A certificate authority, with the files of what it signed.
struct Authority {
    dir: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let dir = TempDir::new().unwrap();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let own = params.self_signed(&key).unwrap();
        std::fs::write(dir.path().join("ca.pem"), pem("CERTIFICATE", own.der())).unwrap();
        Authority { dir, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate.
    fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for these names and its key, PEM.
    fn issue(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der()))
    }

    /// A server with a registry, and a certificate for these names.
    async fn server(&self, names: &[&str]) -> Server {
        let (certificate, key) = self.issue(names);
        let (of_certificate, of_key) = (self.dir.path().join("tls.crt"), self.dir.path().join("tls.key"));
        std::fs::write(&of_certificate, certificate).unwrap();
        std::fs::write(&of_key, key).unwrap();
        let tls = Tls::load(of_certificate, of_key).unwrap();
        Server::with_registry(|settings| settings.tls = Some(tls)).await
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// A connection that speaks `protocol`, of the TLS versions given.
async fn connect(
    server: &Server,
    authorities: &Path,
    protocol: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(bms_wire::tls::authorities(Some(authorities)).unwrap());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
    let mut config = config.unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    stream
}

/// The certificate a fresh connection is shown.
async fn shown(server: &Server, authority: &Authority) -> CertificateDer<'static> {
    let stream = connect(server, &authority.file(), "http/1.1", rustls::ALL_VERSIONS).await;
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// A connection by HTTP/1.1 over TLS.
struct Connection(http1::SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(server: &Server, authority: &Authority) -> Connection {
        let stream = connect(server, &authority.file(), "http/1.1", rustls::ALL_VERSIONS).await;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        Connection(sender)
    }

    async fn get(&mut self, path: &str) -> (u16, String) {
        self.0.ready().await.unwrap();
        let request = Request::get(path).header("host", "localhost").body(Full::default()).unwrap();
        let answer = whole(self.0.send_request(request).await.unwrap()).await;
        (answer.status().as_u16(), String::from_utf8(answer.into_body().to_vec()).unwrap())
    }
}

async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

/// Runs `work` with the blocking client, at an address by this name.
async fn client<T: Send + 'static>(
    server: &Server,
    host: &str,
    authorities: &Path,
    work: impl FnOnce(Client) -> Result<T> + Send + 'static,
) -> Result<T> {
    let base = format!("{host}:{}", server.address.port());
    let client = Client::trusting(&base, Some(authorities)).unwrap();
    tokio::task::spawn_blocking(move || work(client)).await.unwrap()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_protocols_are_spoken_at_the_one_port() {
    let authority = Authority::new("ours");
    let server = authority.server(&["localhost", "127.0.0.1"]).await;
    for host in ["https://localhost", "https://127.0.0.1"] {
        let models = client(&server, host, &authority.file(), |client| client.models()).await.unwrap();
        assert!(models.is_empty());
    }
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let stream = connect(&server, &authority.file(), "h2", versions).await;
        let (mut sender, driver) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(driver);
        let base = format!("https://localhost:{}", server.address.port());
        let request = Request::get(format!("{base}/v2/health/live")).body(Full::default()).unwrap();
        let answer = whole(sender.send_request(request).await.unwrap()).await;
        assert_eq!((answer.status().as_u16(), answer.version()), (200, Version::HTTP_2));
        let call = Request::post(format!("{base}/inference.GRPCInferenceService/ServerLive"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .unwrap();
        let answer = sender.send_request(call).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        // `live: true`
        assert_eq!(answer.to_bytes()[..], [0, 0, 0, 0, 2, 8, 1]);
    }
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_replaced_while_connections_go_on() {
    let authority = Authority::new("ours");
    let server = authority.server(&["localhost"]).await;
    let (of_certificate, of_key) =
        (authority.dir.path().join("tls.crt"), authority.dir.path().join("tls.key"));
    let mut open = Connection::open(&server, &authority).await;
    let (status, metrics) = open.get("/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.contains("\nbms_tls_certificate_expires_seconds "), "{metrics}");
    let first = shown(&server, &authority).await;

    // Half of it is there: a certificate without its key.
    let (certificate, key) = authority.issue(&["localhost"]);
    std::fs::write(&of_certificate, &certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(shown(&server, &authority).await, first, "the pair before stays");
    // A file that is cut off, and one that is not there at all.
    std::fs::write(&of_key, &key[..key.len() / 2]).unwrap();
    std::fs::remove_file(&of_certificate).unwrap();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(shown(&server, &authority).await, first, "the pair before stays");

    std::fs::write(&of_certificate, &certificate).unwrap();
    std::fs::write(&of_key, &key).unwrap();
    until("the new certificate is shown", async || shown(&server, &authority).await != first).await;
    assert_eq!(pem("CERTIFICATE", &shown(&server, &authority).await), certificate);
    assert_eq!(open.get("/v2/health/live").await.0, 200, "the open connection goes on");
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_stall_hold_up_nobody() {
    let authority = Authority::new("ours");
    let server = authority.server(&["localhost"]).await;
    let mut stalled = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if number % 2 == 0 {
            // The head of a record whose rest never comes.
            stream.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
        }
        stalled.push(stream);
    }
    let began = Instant::now();
    let mut connection = Connection::open(&server, &authority).await;
    assert_eq!(connection.get("/v2/health/live").await.0, 200);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    // Nothing was asked on any of them: a stop does not wait for them.
    let (stopped, took) = server.stop().await;
    stopped.unwrap();
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_told_what_is_spoken() {
    let authority = Authority::new("ours");
    let server = authority.server(&["localhost"]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /v2 HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");

    let told = client(&server, "http://localhost", &authority.file(), |client| client.models()).await;
    let error = told.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert_eq!(error.advice(), Some("Use https:// in the address."));

    // What is neither gets nothing.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0xff; 64]).await.unwrap();
    let mut answer = Vec::new();
    // Closed, or broken off because of what was not read.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty());
    server.stop().await.0.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_client_says_why_it_does_not_believe_a_server() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let server = authority.server(&["localhost"]).await;
    let stranger = client(&server, "https://localhost", &other.file(), |client| client.models()).await;
    let error = stranger.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("no certificate authority that is trusted here"), "{error}");
    assert!(error.advice().unwrap().contains("--ca-file"), "{error}");

    let misnamed = client(&server, "https://127.0.0.1", &authority.file(), |client| client.models()).await;
    let error = misnamed.unwrap_err();
    assert!(error.message().contains("is for localhost, not for 127.0.0.1"), "{error}");

    let plain = Server::with_registry(|_| {}).await;
    let unencrypted = client(&plain, "https://localhost", &authority.file(), |client| client.models()).await;
    let error = unencrypted.unwrap_err();
    assert!(error.message().contains("does not speak TLS"), "{error}");
    assert!(error.advice().unwrap().contains("http://"), "{error}");
    plain.stop().await.0.unwrap();
    server.stop().await.0.unwrap();
}
