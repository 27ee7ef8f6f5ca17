//! A small blocking client for the management API and the Open Inference Protocol.

mod keys;
mod lifecycle;
mod plain;
mod rollout;
mod workers;

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::tls::TlsConfig;

use crate::openai::ErrorEnvelope;
use crate::{Code, Error, ErrorBody, Result, api, limits, oip, tls};

pub use keys::ServerKey;
pub use lifecycle::Target;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a control request may take; transfers of files are bounded per read instead.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(60);
/// How long making a version may take: the gate reads all of a bundle, the largest of which have many gigabytes.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a peer may stay silent during the transfer of a file.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A client of one server, keeping its connections open between calls.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    /// How connections are encrypted, at an `https://` address.
    tls: Option<TlsConfig>,
    agent: ureq::Agent,
    /// Who makes the requests, percent-encoded.
    person: Option<String>,
}

impl Client {
    /// A client of the server at `base`, e.g. `http://127.0.0.1:8080`. At an `https://` address it believes whom the system's
    /// certificate authorities vouch for.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] when `base` is no such address, and as [`tls::authorities`].
    pub fn new(base: &str) -> Result<Self> {
        Client::trusting(base, None)
    }

    /// As [`Client::new`], believing the certificate authorities in this PEM file instead. At an `http://` address nobody is
    /// believed anything, and the file is not read.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn trusting(base: &str, authorities: Option<&Path>) -> Result<Self> {
        let base = base.trim_end_matches('/');
        let host = |scheme| base.strip_prefix(scheme).filter(|host| !host.is_empty());
        let tls = match (host("http://"), host("https://")) {
            (Some(_), _) => None,
            (_, Some(_)) => Some(tls::blocking(authorities).map_err(|e| match e.code() {
                Code::NotFound if authorities.is_none() => e.hint("Name one with --ca-file or BMS_CA_FILE."),
                _ => e,
            })?),
            _ => {
                return Err(Error::new(Code::InvalidRequest, format!("`{base}` is not a server address"))
                    .hint("Give it as http://HOST:PORT or https://HOST:PORT, for example http://127.0.0.1:8080."));
            }
        };
        let agent = agent(tls.as_ref()).build().into();
        Ok(Client { base: base.to_owned(), tls, agent, person: None })
    }

    /// The server's address as given.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether the server takes requests, whatever it has loaded.
    pub fn is_live(&self) -> bool {
        self.status("/v2/health/live").is_ok_and(|status| status == 200)
    }

    /// Whether the server says it is ready to answer.
    pub fn is_ready(&self) -> bool {
        self.status("/v2/health/ready").is_ok_and(|status| status == 200)
    }

    /// Whether `model` is loaded and answers.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when the server cannot be reached.
    pub fn is_model_ready(&self, model: &str) -> Result<bool> {
        Ok(self.status(&format!("/v2/models/{}/ready", segment(model)))? == 200)
    }

    /// All models with their versions.
    pub fn models(&self) -> Result<Vec<api::Model>> {
        self.get("/api/v1/models")
    }

    /// One version of `model`: by number, by alias, or `latest`.
    pub fn version(&self, model: &str, version: &str) -> Result<api::Version> {
        self.get(&format!("/api/v1/models/{}/versions/{}", segment(model), segment(version)))
    }

    /// Makes a version of uploaded files. The same bundle again gives the version it already is.
    pub fn publish(&self, model: &str, version: &api::NewVersion) -> Result<api::Version> {
        // The server reads every byte of the bundle before it answers.
        let path = format!("/api/v1/models/{}/versions", segment(model));
        self.send_within("POST", &path, version, PUBLISH_TIMEOUT)
    }

    /// Whether the server holds the file with this BLAKE3.
    pub fn has_blob(&self, blake3: &str) -> Result<bool> {
        let url = self.url(&format!("/api/v1/blobs/{}", segment(blake3)));
        let response = self.agent.head(&url).call().map_err(|e| self.unreachable(e))?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(self.failure(response)),
        }
    }

    /// Uploads one file of `size` bytes. The server verifies its BLAKE3.
    pub fn put_blob(&self, blake3: &str, mut content: impl Read, size: u64) -> Result<()> {
        let url = self.url(&format!("/api/v1/blobs/{}", segment(blake3)));
        let request = self
            .agent
            .put(&url)
            .header("content-type", "application/octet-stream")
            .header("content-length", size.to_string());
        let response =
            request.send(ureq::SendBody::from_reader(&mut content)).map_err(|e| self.unreachable(e))?;
        self.check(response).map(drop)
    }

    /// Opens the file with this BLAKE3 for reading. The caller verifies what it read.
    pub fn get_blob(&self, blake3: &str) -> Result<impl Read + 'static> {
        let url = self.url(&format!("/api/v1/blobs/{}", segment(blake3)));
        let response = self.agent.get(&url).call().map_err(|e| self.unreachable(e))?;
        let response = self.check(response)?;
        Ok(response.into_body().into_with_config().limit(limits::BLOB_BYTES_MAX).reader())
    }

    /// Which of these chunks, at most [`limits::CHUNKS_ASKED_MAX`], the server lacks.
    pub fn missing_chunks(&self, chunks: Vec<String>) -> Result<Vec<String>> {
        let missing: api::ChunkList =
            self.send("POST", "/api/v1/chunks/missing", &api::ChunkList { chunks })?;
        Ok(missing.chunks)
    }

    /// Sends chunks, in the form that [`api::ChunkList`] tells.
    pub fn put_chunks(&self, chunks: &[u8]) -> Result<api::ChunksStored> {
        let request =
            self.agent.post(self.url("/api/v1/chunks")).header("content-type", "application/octet-stream");
        let response = request.send(chunks).map_err(|e| self.unreachable(e))?;
        self.read(response)
    }

    /// Chunks of the server, in the form that [`api::ChunkList`] tells. The caller verifies what it got.
    pub fn get_chunks(&self, chunks: Vec<String>) -> Result<Vec<u8>> {
        let body = serde_json::to_vec(&api::ChunkList { chunks })
            .map_err(|e| Error::new(Code::Internal, "the request cannot be written as JSON").because(e))?;
        let request =
            self.agent.post(self.url("/api/v1/chunks/read")).header("content-type", "application/json");
        let response = request.send(&body[..]).map_err(|e| self.unreachable(e))?;
        self.whole(response, limits::CHUNKS_BODY_BYTES_MAX)
    }

    /// The list of a file's chunks, or `None` when the server knows no such list.
    pub fn get_recipe(&self, blake3: &str) -> Result<Option<Vec<u8>>> {
        let url = self.url(&format!("/api/v1/blobs/{}/recipe", segment(blake3)));
        let response = self.agent.get(&url).call().map_err(|e| self.unreachable(e))?;
        match response.status().as_u16() {
            404 => Ok(None),
            _ => self.whole(response, limits::RECIPE_BYTES_MAX).map(Some),
        }
    }

    /// Makes a file of chunks that the server has. It reads them all before it answers.
    pub fn put_recipe(&self, blake3: &str, recipe: &[u8]) -> Result<()> {
        let url = self.url(&format!("/api/v1/blobs/{}/recipe", segment(blake3)));
        let request = self.agent.put(&url).header("content-type", "application/octet-stream");
        let config = request.config().timeout_global(Some(PUBLISH_TIMEOUT));
        let request = config.timeout_per_read(Some(PUBLISH_TIMEOUT)).build();
        let response = request.send(recipe).map_err(|e| self.unreachable(e))?;
        self.check(response).map(drop)
    }

    fn whole(&self, response: Response, limit: usize) -> Result<Vec<u8>> {
        let mut response = self.check(response)?;
        let body = response.body_mut().with_config().limit(limit as u64);
        body.read_to_vec().map_err(|e| self.unreachable(e))
    }

    /// Points `alias` of `model` at a version, through the evaluation gate when one is given.
    pub fn set_alias(&self, model: &str, alias: &str, change: &api::SetAlias) -> Result<api::Version> {
        self.send("PUT", &format!("/api/v1/models/{}/aliases/{}", segment(model), segment(alias)), change)
    }

    /// Keeps the version `alias` points at loaded.
    pub fn deploy(&self, model: &str, alias: &str) -> Result<api::Deployment> {
        self.set_deployment(model, &api::SetDeployment::of(alias))
    }

    /// Keeps the version an alias points at loaded, in as many slots as it says.
    pub fn set_deployment(&self, model: &str, set: &api::SetDeployment) -> Result<api::Deployment> {
        self.send("PUT", &format!("/api/v1/deployments/{}", segment(model)), set)
    }

    /// What the slots may use together, and do.
    pub fn memory(&self) -> Result<api::Memory> {
        self.get("/api/v1/memory")
    }

    /// The deployments and how they stand.
    pub fn deployments(&self) -> Result<Vec<api::Deployment>> {
        self.get("/api/v1/deployments")
    }

    /// The slot processes.
    pub fn slots(&self) -> Result<Vec<api::Slot>> {
        self.get("/api/v1/slots")
    }

    /// Joins as edge node, or says how it goes; the answer says what to run.
    pub fn report_node(&self, node: &str, report: &api::NodeReport) -> Result<api::NodeOrders> {
        self.send("PUT", &format!("/api/v1/edge/nodes/{}", segment(node)), report)
    }

    /// The edge nodes.
    pub fn nodes(&self) -> Result<Vec<api::Node>> {
        self.get("/api/v1/edge/nodes")
    }

    /// Delivers samples an edge node was unsure of. Delivering one twice stores it once.
    pub fn deliver_samples(&self, node: &str, delivery: &api::SampleDelivery) -> Result<()> {
        let path = format!("/api/v1/edge/nodes/{}/samples", segment(node));
        let _: serde_json::Value = self.send("POST", &path, delivery)?;
        Ok(())
    }

    /// All stored samples of `model`, oldest first, with their pictures; only those without a label when `unlabelled`.
    pub fn samples(&self, model: &str, unlabelled: bool) -> Result<Vec<api::StoredSample>> {
        let mut all: Vec<api::StoredSample> = Vec::new();
        loop {
            let after =
                all.last().map_or(String::new(), |last| format!("&after={}", segment(&last.sample.id)));
            let page: Vec<api::StoredSample> = self
                .get(&format!("/api/v1/samples?model={}&unlabelled={unlabelled}{after}", segment(model)))?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }

    /// Gives a stored sample its label.
    pub fn label_sample(&self, id: &str, label: &api::AssignedLabel) -> Result<()> {
        let _: serde_json::Value =
            self.send("PUT", &format!("/api/v1/samples/{}/label", segment(id)), label)?;
        Ok(())
    }

    /// What was refused and set aside.
    pub fn quarantine(&self) -> Result<Vec<api::Quarantined>> {
        self.get("/api/v1/quarantine")
    }

    /// One of them, with its files.
    pub fn quarantined(&self, id: &str) -> Result<api::QuarantinedBundle> {
        self.get(&format!("/api/v1/quarantine/{}", segment(id)))
    }

    /// Passes it through the gate again; a version when it is admitted by now.
    pub fn release_quarantined(&self, id: &str, order: &api::SignedOrder) -> Result<api::Version> {
        let path = format!("/api/v1/quarantine/{}/release", segment(id));
        self.send_within("POST", &path, order, PUBLISH_TIMEOUT)
    }

    /// Deletes it.
    pub fn purge_quarantined(&self, id: &str, order: &api::SignedOrder) -> Result<()> {
        let path = format!("/api/v1/quarantine/{}/purge", segment(id));
        let _: serde_json::Value = self.send("POST", &path, order)?;
        Ok(())
    }

    /// Where the audit log ends, signed by the server.
    pub fn audit_head(&self) -> Result<String> {
        let head: api::AuditHead = self.get("/api/v1/audit/head")?;
        Ok(head.head)
    }

    /// The audit log after position `after`, from one answer; ask on with its last position.
    pub fn audit(&self, after: u64) -> Result<Vec<api::AuditEvent>> {
        self.get(&format!("/api/v1/audit?after={after}"))
    }

    /// Checks the audit log's chain, and gives its length.
    ///
    /// # Errors
    /// [`Code::Tampered`] when an event was edited, dropped or reordered.
    pub fn verify_audit(&self) -> Result<u64> {
        let verdict: serde_json::Value = self.get("/api/v1/audit/verify")?;
        Ok(verdict["events"].as_u64().unwrap_or(0))
    }

    /// Asks `model` for an answer.
    pub fn infer(&self, model: &str, request: &oip::InferRequest) -> Result<oip::InferResponse> {
        self.send("POST", &format!("/v2/models/{}/infer", segment(model)), request)
    }

    /// What `model` takes and gives.
    pub fn metadata(&self, model: &str) -> Result<oip::ModelMetadata> {
        self.get(&format!("/v2/models/{}", segment(model)))
    }

    /// Sends a JSON body and opens the answer for reading while it is written, e.g. a stream of events. A peer that
    /// says nothing for half a minute is given up.
    ///
    /// # Errors
    /// The peer's refusal, or [`Code::Unavailable`] when it cannot be reached.
    pub fn stream<B: Serialize>(&self, path: &str, body: &B) -> Result<impl Read + 'static> {
        let body = serde_json::to_vec(body)
            .map_err(|e| Error::new(Code::Internal, "the request cannot be written as JSON").because(e))?;
        let request = self.agent.post(self.url(path)).header("content-type", "application/json");
        let response = request.send(&body[..]).map_err(|e| self.unreachable(e))?;
        let response = self.check(response)?;
        Ok(response.into_body().into_with_config().limit(limits::REPLY_BYTES_MAX as u64).reader())
    }

    /// `GET` of any JSON resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.agent.get(self.url(path)).config().timeout_global(Some(CONTROL_TIMEOUT)).build();
        let response = request.call().map_err(|e| self.unreachable(e))?;
        self.read(response)
    }

    fn send<B: Serialize, T: DeserializeOwned>(&self, method: &str, path: &str, body: &B) -> Result<T> {
        self.send_within(method, path, body, CONTROL_TIMEOUT)
    }

    fn send_within<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &B,
        timeout: Duration,
    ) -> Result<T> {
        let url = self.url(path);
        let request = match method {
            "PUT" => self.agent.put(&url),
            "PATCH" => self.agent.patch(&url),
            _ => self.agent.post(&url),
        };
        let body = serde_json::to_vec(body)
            .map_err(|e| Error::new(Code::Internal, "the request cannot be written as JSON").because(e))?;
        let mut request = request.header("content-type", "application/json");
        if let Some(person) = &self.person {
            request = request.header(api::PERSON_HEADER, person);
        }
        let config = request.config().timeout_global(Some(timeout));
        let request = config.timeout_per_read(Some(timeout.max(STALL_TIMEOUT))).build();
        let response = request.send(&body[..]).map_err(|e| self.unreachable(e))?;
        self.read(response)
    }

    fn status(&self, path: &str) -> Result<u16> {
        let request = self.agent.get(self.url(path)).config().timeout_global(Some(CONNECT_TIMEOUT)).build();
        Ok(request.call().map_err(|e| self.unreachable(e))?.status().as_u16())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let mut response = self.check(response)?;
        let body = response.body_mut().with_config().limit(limits::REPLY_BYTES_MAX as u64);
        body.read_json().map_err(|e| {
            Error::new(
                Code::Internal,
                format!("{} sent an answer that is not the expected JSON: {e}", self.base),
            )
            .because(e)
        })
    }

    fn check(&self, response: Response) -> Result<Response> {
        if response.status().is_success() { Ok(response) } else { Err(self.failure(response)) }
    }

    /// The error a peer sent, or one that says what came instead.
    fn failure(&self, mut response: Response) -> Error {
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 16).read_to_string().unwrap_or_default();
        let by_status = Code::ALL.iter().copied().find(|c| c.http() == status).unwrap_or(Code::Internal);
        if let Ok(body) = serde_json::from_str::<ErrorBody>(&text) {
            return body.into();
        }
        match serde_json::from_str::<ErrorEnvelope>(&text) {
            Ok(envelope) => envelope.into_error(by_status),
            Err(_) => Error::new(by_status, format!("{} answered with HTTP status {status}", self.base)),
        }
    }

    fn unreachable(&self, error: ureq::Error) -> Error {
        if let Some(refusal) = tls::refusal(&self.base, &error) {
            return refusal.because(error);
        }
        let code = match error {
            ureq::Error::Timeout(_) => Code::DeadlineExceeded,
            ureq::Error::BadUri(_) | ureq::Error::Http(_) => Code::InvalidRequest,
            _ => Code::Unavailable,
        };
        Error::new(code, format!("{} cannot be reached: {error}", self.base))
            .hint("Check that the server runs (`bms up`) and that the address is right.")
            .because(error)
    }
}

/// How connections are made and kept.
fn agent(tls: Option<&TlsConfig>) -> ureq::config::ConfigBuilder<ureq::typestate::AgentScope> {
    let config = ureq::Agent::config_builder();
    let config = match tls {
        Some(tls) => config.tls_config(tls.clone()),
        None => config,
    };
    config
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(STALL_TIMEOUT))
        .timeout_per_write(Some(STALL_TIMEOUT))
        .user_agent(concat!("bms/", env!("CARGO_PKG_VERSION")))
}

type Response = ureq::http::Response<ureq::Body>;

/// One segment of a URL path or query value, percent-encoded (RFC 3986, unreserved kept).
fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests;
