//! The server of a rendered pod, started with the real program as its pod would start it, and asked as its clients would ask.
//!
//! What the pod's volumes, Secrets and ConfigMaps bring stands below a folder in place of the root; ports are free ones. Servers that
//! share are two, over the PostgreSQL and the S3 of `cargo xtask services`; where those do not run, one over a folder. All else is what the
//! chart renders: options, variables, files, probes, the proxy's settings, and the pods of `helm test`.

mod ground;
mod pod;
mod running;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;

use self::ground::Ground;
use self::pod::{Files, Pod, Secrets};
use self::running::{Asked, Door, Running};
use super::{Rendered, list};
use crate::process;

/// What only who may do everything is told.
const CLOSED: &str = "/api/v1/models";
const METRICS: &str = "/metrics";
/// Where a pod has the certificate of its server's authority.
const AUTHORITY: &str = "/etc/bms/tls/ca.crt";
/// A key of nobody.
const UNKNOWN: &str = "bms_0123456789_0123456789012345678901234567890123456789012345678901234567890123";

/// Programs the trial needs.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) bms: PathBuf,
    /// The proxy of the chart.
    pub(super) caddy: PathBuf,
    /// What clients of the services have to know; empty when none run.
    pub(super) services: Vec<(String, String)>,
}

/// What is wrong with the servers of all sets of values.
///
/// # Errors
/// What keeps a trial from being made.
pub(super) fn problems(
    renders: &BTreeMap<String, Vec<Rendered>>,
    programs: &Programs,
) -> Result<Vec<String>> {
    let home = home(&programs.bms).context("failed to make a home folder as the chart's page says")?;
    let mut problems = Vec::new();
    for (set, rendered) in renders {
        let secrets = Secrets::of(rendered, &home);
        let found = one(set, rendered, &secrets, programs)
            .with_context(|| format!("{set}: the server was not tried"))?;
        println!("{set}: the server was tried, {} problems", found.len());
        problems.extend(found.into_iter().map(|problem| format!("{set}: {problem}")));
    }
    Ok(problems)
}

/// The files of a home folder for servers that share, and the authority that workers believe: made as the chart's page says.
fn home(bms: &Path) -> Result<Files> {
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let home = folder.path().join("home");
    for command in [["trust", "list"], ["key", "audit"]] {
        process::output(running::clean(&mut Command::new(bms)).arg("--home").arg(&home).args(command))?;
    }
    let mut up = Command::new(bms);
    running::clean(&mut up).arg("--home").arg(&home).args([
        "--json",
        "up",
        "--listen=127.0.0.1:0",
        "--nodes-listen=127.0.0.1:0",
    ]);
    Running::start(&mut up)?.stop()?;
    let mut files = Files::new();
    for (name, path) in [
        ("policy.toml", "policy.toml"),
        ("audit-key.pem", "audit-key.pem"),
        ("authority.json", "nodes-ca/authority.json"),
    ] {
        let path = home.join(path);
        let bytes = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        files.insert(name.to_owned(), bytes);
    }
    files.extend(certificates()?);
    Ok(files)
}

/// What cert-manager writes: a certificate for a server here, its key, and the authority's certificate.
fn certificates() -> Result<Files> {
    let pem = |kind: &str, der: &[u8]| {
        format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der)).into_bytes()
    };
    let (of_authority, key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let itself = authority.self_signed(&of_authority)?;
    let issuer = Issuer::new(authority, of_authority);
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &issuer)?;
    let files = [
        ("ca.crt", pem("CERTIFICATE", itself.der())),
        ("tls.crt", pem("CERTIFICATE", certificate.der())),
        ("tls.key", pem("PRIVATE KEY", key.serialized_der())),
    ];
    Ok(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

/// Tries the servers of one set of values: all run before the first is asked.
fn one(set: &str, rendered: &[Rendered], secrets: &Secrets, programs: &Programs) -> Result<Vec<String>> {
    let ground = Ground::of(set, rendered, &programs.services)?;
    let pods: Vec<Pod<'_>> =
        (0..ground.servers()).map(|_| Pod::of(rendered, secrets)).collect::<Result<_>>()?;
    let mut problems = pods[0].problems();
    let started = pods.iter().map(|pod| Server::start(pod, &ground, programs));
    let mut servers = started.collect::<Result<Vec<_>>>()?;
    for server in &servers {
        problems.extend(server.problems(rendered, secrets, programs)?);
    }
    for server in &mut servers {
        problems.extend(secrets.shown_in(&server.stop()?));
    }
    Ok(problems)
}

/// A server with the proxy before it, if it has one.
struct Server<'a> {
    pod: &'a Pod<'a>,
    running: Running,
    proxy: Option<Running>,
}

impl Server<'_> {
    fn start<'a>(pod: &'a Pod<'a>, ground: &Ground, programs: &Programs) -> Result<Server<'a>> {
        let running = Running::start(&mut pod.command(&programs.bms, ground)?)?;
        let environment = pod.proxy_environment();
        let start = |settings| {
            Running::start_proxy(&programs.caddy, settings, running.address, pod.root(), &environment)
        };
        let proxy = pod.proxy().map(start).transpose()?;
        Ok(Server { pod, running, proxy })
    }

    /// Where its clients ask.
    fn door(&self) -> Result<Door> {
        let Running { address, is_encrypted, .. } = *self.proxy.as_ref().unwrap_or(&self.running);
        let authority = self.pod.at(AUTHORITY);
        let tls = is_encrypted.then(|| bms_wire::tls::config(Some(&authority))).transpose()?;
        Ok(Door { address, tls: tls.map(Arc::new) })
    }

    /// Asks as clients, Kubernetes and `helm test` do.
    fn problems(&self, rendered: &[Rendered], secrets: &Secrets, programs: &Programs) -> Result<Vec<String>> {
        let mut problems = Vec::new();
        let door = self.door()?;
        for (who, path, status) in expected(self.pod, rendered, secrets) {
            let asked = Asked { path: &path, host: "demo-bms.models", bearer: who.as_deref() };
            let given = running::status_of(&door, asked)?;
            if given != status {
                let whose = if who.is_some() { "with a key" } else { "without a key" };
                problems.push(format!("{path} {whose} is answered with {given} and not with {status}"));
            }
        }
        for (probe, path) in self.pod.probes() {
            if let Err(error) = running::becomes_well(&door, &path) {
                problems.push(format!("the {probe} would fail: {error:#}"));
            }
        }
        for test in self.pod.tests(rendered, door.address) {
            let mut command = test.command(&programs.bms);
            let output = command.output().context("failed to start a pod of `helm test`")?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                problems.push(format!("`helm test`: {}: {said}", test.name));
            }
            problems.extend(secrets.shown_in(&String::from_utf8_lossy(&output.stdout)));
        }
        Ok(problems)
    }

    /// Tells both to end, as Kubernetes does, the server first; gives what they printed.
    fn stop(&mut self) -> Result<String> {
        let mut said = self.running.stop()?;
        if let Some(proxy) = &mut self.proxy {
            said.push_str(&proxy.stop()?);
        }
        Ok(said)
    }
}

/// What is to be answered: who asks, what, and the status.
fn expected(pod: &Pod<'_>, rendered: &[Rendered], secrets: &Secrets) -> Vec<(Option<String>, String, u16)> {
    let reference = |value: &Value| secrets.value(value["name"].as_str()?, value["key"].as_str()?);
    let admin = rendered
        .iter()
        .filter(|one| one.document["kind"] == "Pod")
        .flat_map(|one| list(&one.document["spec"]["containers"]))
        .flat_map(|container| list(&container["env"]))
        .find(|one| one["name"] == "BMS_API_KEY")
        .and_then(|one| reference(&one["valueFrom"]["secretKeyRef"]));
    let monitor = rendered
        .iter()
        .filter(|one| one.document["kind"] == "ServiceMonitor")
        .find_map(|one| reference(&one.document["spec"]["endpoints"][0]["authorization"]["credentials"]));
    let metrics = if pod.is_told("--metrics-open") { 200 } else { 401 };
    let mut asked = vec![
        (None, CLOSED, 401),
        (Some(UNKNOWN.to_owned()), CLOSED, 401),
        (None, METRICS, metrics),
        (None, "/v2/health/live", 200),
    ];
    asked.extend(
        admin.into_iter().flat_map(|key| [(Some(key.clone()), CLOSED, 200), (Some(key), METRICS, 200)]),
    );
    asked.extend(
        monitor.into_iter().flat_map(|key| [(Some(key.clone()), CLOSED, 401), (Some(key), METRICS, 200)]),
    );
    asked.into_iter().map(|(who, path, status)| (who, path.to_owned(), status)).collect()
}

/// Whether every kind of trial was made in one set of values at least.
pub(super) fn check_variety(renders: &BTreeMap<String, Vec<Rendered>>) -> Result<()> {
    let text = |set: &Vec<Rendered>| set.iter().map(|one| one.document.to_string()).collect::<String>();
    for part in [
        "--keys=required",
        "--keys=off",
        "--metrics-open",
        "--engines=",
        "--nodes-listen=",
        "--tls-cert=",
        "--cache-memory=",
        "ServiceMonitor",
    ] {
        ensure!(renders.values().any(|set| text(set).contains(part)), "no set of values renders `{part}`");
    }
    Ok(())
}
