//! The centre's side: a port of its own, by TLS, on which machines join, say how they are, and fetch what they shall run.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::routing::post;
use axum::{Extension, Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_registry::Registry;
use bms_wire::api::{JoinToken, NewJoinToken};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use http::header;
use http_body_util::Full;
use rustls::ClientConfig;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};

use super::authority::{Authority, Key, PublicKey};
use super::lead::Lead;
use super::peer::{self, Own, Peer, TlsListener};
use super::protocol::{
    Certified, DOCUMENT_BYTES_MAX, ENROL, Enrol, FILES, HEARTBEAT, Heartbeat, LEAVE, LIVE, Leave, Order,
    Orders, RENEW, Renew,
};
use super::token::{self, Token, fresh_secret};
use super::{CENTRE_HOST, JOIN_AGAIN, host_and_port, pull, worker_host};
use crate::api::Api;
use crate::body;
use crate::failure::Failure;
use crate::files;
use crate::listen::{self, Terms};
use crate::slots::{Address, Berths, Connections, Elsewhere, Tls};

/// Where workers join a server, and by which authority.
#[derive(Clone, Debug)]
pub struct Nodes {
    /// Where it listens for workers.
    pub listen: SocketAddr,
    /// `HOST:PORT` under which workers reach that; where it listens when absent.
    pub address: Option<String>,
    /// The folder of the authority that signs certificates, made at first use. Replicas share one.
    pub authority: PathBuf,
    /// How long a certificate is good for, of workers and of the centre itself: at most
    /// [`limits::WORKER_CERTIFICATE_SECONDS`] seconds, and at least four.
    pub certificates_last: Duration,
}

impl Nodes {
    /// Workers join where this listens, by the authority in the folder; certificates are good for the longest time allowed.
    pub fn new(listen: SocketAddr, authority: PathBuf) -> Self {
        let certificates_last = Duration::from_secs(limits::WORKER_CERTIFICATE_SECONDS);
        Nodes { listen, address: None, authority, certificates_last }
    }
}

/// Seconds a certificate is good for at least: it is renewed with a heartbeat.
const CERTIFICATE_SECONDS_MIN: u64 = 4;
const _: () = assert!(
    5 * limits::WORKER_HEARTBEAT_MS < 2 * 1000 * CERTIFICATE_SECONDS_MIN,
    "a certificate is renewed before it ends"
);

/// Workers that could not be reached and were not reckoned with yet; more are heard of again.
const SUSPECTS_MAX: usize = 64;
/// How long a worker that joins may take to answer.
const REACHED_WITHIN: Duration = Duration::from_secs(3);
/// How long a worker's connection may stay without a request.
const IDLE_WITHIN: Duration = Duration::from_secs(75);
/// How long open requests of workers get when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// What the routes share.
pub(crate) struct Centre {
    registry: Registry,
    authority: Authority,
    own: Arc<Own>,
    key: Key,
    certificates_last: Duration,
    client: Arc<ClientConfig>,
    address: String,
    changed: Arc<Notify>,
    /// Workers that were reached, with the address at which they were.
    reached: Mutex<BTreeSet<(String, String)>>,
    /// Where workers reach the replicas that are there, this one among them.
    replicas: Mutex<Vec<String>>,
}

impl Centre {
    /// Listens for workers.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when workers could not be told where; [`Code::Conflict`] when another authority counts
    /// here; failures to listen, and to keep the authority's file.
    pub(crate) async fn open(
        nodes: &Nodes,
        registry: Registry,
        changed: Arc<Notify>,
    ) -> Result<(Arc<Self>, TcpListener)> {
        let authority = Authority::load_or_make(&nodes.authority)?;
        registry.anchor_authority(&STANDARD.encode(authority.certificate())).await?;
        let cannot = |e: std::io::Error| {
            Error::new(Code::Unavailable, format!("failed to listen for workers on {}: {e}", nodes.listen))
                .hint("Choose another address with --nodes-listen.")
                .because(e)
        };
        let listener = TcpListener::bind(nodes.listen).await.map_err(cannot)?;
        let bound = listener.local_addr().map_err(cannot)?;
        let address = match &nodes.address {
            Some(address) => address.clone(),
            None if bound.ip().is_unspecified() => {
                let what = format!("workers cannot connect to {bound}");
                return Err(Error::new(Code::InvalidRequest, what).hint(
                    "Say under which address they reach this machine with --nodes-address HOST:PORT.",
                ));
            }
            None => bound.to_string(),
        };
        host_and_port(&address)?;
        let key = Key::generate()?;
        let (least, most) = (CERTIFICATE_SECONDS_MIN, limits::WORKER_CERTIFICATE_SECONDS);
        let certificates_last =
            nodes.certificates_last.clamp(Duration::from_secs(least), Duration::from_secs(most));
        let certificate = authority.issue(CENTRE_HOST, &key.public(), certificates_last)?;
        let own = Own::new(key.signing()?, certificate, authority.certificate().clone());
        let client = peer::client(own.clone(), authority.certificate())?;
        let reached = Mutex::default();
        let replicas = Mutex::default();
        let centre = Centre {
            registry,
            authority,
            own,
            key,
            certificates_last,
            client,
            address,
            changed,
            reached,
            replicas,
        };
        Ok((Arc::new(centre), listener))
    }

    /// What this server's slots need, and who decides where they are.
    pub(crate) fn placing(&self) -> (Elsewhere, Lead) {
        let (berths, following) = watch::channel(Arc::new(Berths::new()));
        let (sender, suspects) = mpsc::channel(SUSPECTS_MAX);
        let elsewhere = Elsewhere {
            berths: following,
            client: self.client.clone(),
            suspects: sender,
            ready: Arc::new(Mutex::new(HashMap::new())),
            claims: Arc::default(),
        };
        let lead = Lead::new(self.registry.clone(), berths, suspects, elsewhere.clone());
        (elsewhere, lead)
    }

    /// Answers workers until `shutdown` is done.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        api: Arc<Api>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<()> {
        let config = peer::server(self.own.clone(), self.authority.certificate(), true)?;
        let files = crate::api::worker_routes(&api)
            .layer(axum::middleware::from_fn_with_state(self.clone(), only_workers));
        let router = Router::new()
            .route(ENROL, post(enrol))
            .route(RENEW, post(renew))
            .route(HEARTBEAT, post(heartbeat))
            .route(LEAVE, post(leave))
            .with_state(self.clone())
            .nest(FILES, files)
            .fallback(crate::failure::no_such_route);
        let terms = Terms {
            connections_max: files::connections_max(),
            head_within: Some(IDLE_WITHIN),
            taken_within: Some(Duration::from_secs(limits::CLIENT_STALL_SECONDS_MAX)),
            http2: false,
            drain: DRAIN,
        };
        let renewing = tokio::spawn(self.clone().renew_own());
        let noting = tokio::spawn(self.clone().note_replicas());
        let routes = |io: &_| router.clone().layer(Extension(Peer::of(io)));
        listen::serve_each(TlsListener::new(listener, config), routes, terms, shutdown).await;
        renewing.abort();
        noting.abort();
        // Workers would find out by themselves; it is said for those that join.
        if let Err(error) = self.registry.forget_centre(&self.address).await {
            tracing::warn!("workers may be told of this server for a minute more: {error}");
        }
        Ok(())
    }

    /// Takes a fresh certificate for this replica long before the last one ends.
    async fn renew_own(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.certificates_last / 4).await;
            match self.authority.issue(CENTRE_HOST, &self.key.public(), self.certificates_last) {
                Ok(certificate) => self.own.replace(certificate),
                Err(error) => tracing::error!("failed to renew the centre's certificate: {error}"),
            }
        }
    }

    /// Says again and again where this replica is, and hears where the others are.
    async fn note_replicas(self: Arc<Self>) {
        loop {
            let noted = async {
                self.registry.note_centre(&self.address).await?;
                self.registry.centres().await
            };
            match noted.await {
                Ok(replicas) => *self.replicas() = replicas,
                // Those known before are told on.
                Err(error) => tracing::warn!("workers are not told where this server is: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(limits::CENTRE_NOTE_MS)).await;
        }
    }

    fn replicas(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.replicas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a join token.
    pub(crate) async fn create_token(&self, new: &NewJoinToken, by: &str) -> Result<JoinToken> {
        let (address, pin) = (self.address.clone(), self.authority.pin());
        let token = Token { address, pin, secret: fresh_secret()? };
        let expires_ms = self.registry.create_join_token(&token.digest(), new, by).await?;
        Ok(JoinToken { token: token.write(), address: token.address, uses: new.uses, expires_ms })
    }

    /// Whose connection it is.
    async fn worker(&self, peer: &Peer) -> Result<String> {
        if peer.has_ended(OffsetDateTime::now_utc().unix_timestamp()) {
            let what = "the certificate by which this connection was opened has ended";
            return Err(Error::new(Code::PermissionDenied, what).hint(JOIN_AGAIN));
        }
        match &peer.key_id {
            Some(key_id) => self.registry.worker_with_key(key_id).await,
            None => Err(Error::new(Code::PermissionDenied, "this is for workers that have joined")
                .hint("Join with `bms node join TOKEN`.")),
        }
    }

    /// Makes sure once that the worker can be reached where it says it is.
    async fn reach(&self, worker: &str, address: &str) -> Result<()> {
        let known = (worker.to_owned(), address.to_owned());
        if self.reached().contains(&known) {
            return Ok(());
        }
        let (host, port) = host_and_port(address)?;
        let tls = Some(Tls::new(self.client.clone(), &worker_host(worker))?);
        let connections =
            Arc::new(Connections::new(Address::Tcp { host: host.into(), port, tls }, Arc::default()));
        let request = http::Request::get(LIVE).header(header::HOST, "worker").body(Full::<Bytes>::default());
        let request =
            request.map_err(|e| Error::new(Code::Internal, "a request cannot be made").because(e))?;
        pull::answer(&connections, request, REACHED_WITHIN).await.map_err(|e| {
            let what = format!("the centre does not reach the worker at {address}: {}", e.message());
            Error::new(Code::Unavailable, what)
                .hint("Give --address HOST:PORT as the centre sees this machine, and open the port to it.")
        })?;
        self.reached().insert(known);
        self.changed.notify_one();
        Ok(())
    }

    fn reached(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, String)>> {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn certified(&self, worker: &str, key: &PublicKey) -> Result<Certified> {
        let certificate = self.authority.issue_to_worker(worker, key, self.certificates_last)?;
        Ok(Certified {
            certificate: STANDARD.encode(&certificate),
            authority: STANDARD.encode(self.authority.certificate()),
            seconds: self.certificates_last.as_secs(),
        })
    }
}

fn public_key(text: &str) -> Result<PublicKey> {
    let bytes = STANDARD.decode(text);
    PublicKey::new(bytes.map_err(|e| Error::new(Code::InvalidRequest, "the key is no base64").because(e))?)
}

/// Lets nobody through but workers.
async fn only_workers(
    State(centre): State<Arc<Centre>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: axum::middleware::Next,
) -> std::result::Result<axum::response::Response, Failure> {
    centre.worker(&peer).await?;
    Ok(next.run(request).await)
}

type Answer<T> = std::result::Result<Json<T>, Failure>;

async fn enrol(State(centre): State<Arc<Centre>>, request: Request) -> Answer<Certified> {
    let asked: Enrol = body::read_document(request, DOCUMENT_BYTES_MAX).await?;
    let key = public_key(&asked.key)?;
    centre.registry.enrol_worker(&token::digest(&asked.secret), &asked.name, &key.id()).await?;
    Ok(Json(centre.certified(&asked.name, &key)?))
}

async fn renew(
    State(centre): State<Arc<Centre>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Certified> {
    let worker = centre.worker(&peer).await?;
    let asked: Renew = body::read_document(request, DOCUMENT_BYTES_MAX).await?;
    let key = public_key(&asked.key)?;
    if peer.key_id != Some(key.id()) {
        return Err(Error::new(Code::PermissionDenied, "a worker keeps the key it joined with").into());
    }
    Ok(Json(centre.certified(&worker, &key)?))
}

async fn heartbeat(
    State(centre): State<Arc<Centre>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<Orders> {
    let worker = centre.worker(&peer).await?;
    let Heartbeat { report } = body::read_document(request, DOCUMENT_BYTES_MAX).await?;
    centre.reach(&worker, &report.address).await?;
    let leave = centre.registry.report_worker(&worker, &report).await?;
    let (placed, _) = centre.registry.placements().await?;
    let own = placed.into_iter().filter(|placed| placed.worker.as_deref() == Some(&worker));
    let slots = own.map(|placed| Order {
        id: placed.id,
        model: placed.model,
        version: placed.version,
        cores: placed.cores,
    });
    let centres = centre.replicas().clone();
    Ok(Json(Orders { slots: slots.collect(), leave, centres }))
}

async fn leave(
    State(centre): State<Arc<Centre>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Answer<()> {
    let worker = centre.worker(&peer).await?;
    let said: Option<Leave> = body::read_document(request, DOCUMENT_BYTES_MAX).await?;
    centre.registry.leave_worker(&worker, said.is_some_and(|said| said.was_told)).await?;
    centre.changed.notify_one();
    Ok(Json(()))
}
