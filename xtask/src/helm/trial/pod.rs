//! A rendered pod: its files below a folder, and what its containers are told, with paths and ports that are free here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::ground::Ground;
use super::running;
use crate::helm::{Rendered, list};

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Files that are given along with those of a home folder, and stand in other Secrets.
const OTHERS: [&str; 4] = ["authority.json", "ca.crt", "tls.crt", "tls.key"];

/// Secrets of one set of values: those that are rendered, and stand-ins for those that somebody else makes.
#[derive(Debug)]
pub(super) struct Secrets(BTreeMap<String, Files>);

impl Secrets {
    pub(super) fn of(rendered: &[Rendered], home: &Files) -> Secrets {
        let mut secrets: BTreeMap<String, Files> = BTreeMap::new();
        for document in rendered.iter().map(|one| &one.document).filter(|one| one["kind"] == "Secret") {
            let name = document["metadata"]["name"].as_str().unwrap_or_default();
            let data = document["data"].as_object().into_iter().flatten();
            let decoded =
                data.filter_map(|(key, value)| Some((key.clone(), STANDARD.decode(value.as_str()?).ok()?)));
            secrets.insert(name.to_owned(), decoded.collect());
        }
        let mut named = BTreeSet::new();
        rendered.iter().for_each(|one| references(&one.document, &mut named));
        for (name, key) in
            named.into_iter().filter(|(name, _)| !secrets.contains_key(name)).collect::<Vec<_>>()
        {
            let value = home.get(&key).cloned().unwrap_or_else(|| made_up(&name, &key).into_bytes());
            secrets.entry(name).or_default().insert(key, value);
        }
        // A home folder is mounted whole: nothing names its files.
        for document in rendered.iter().map(|one| &one.document) {
            for source in volumes(document).flat_map(|volume| list(&volume["projected"]["sources"])) {
                let secret = &source["secret"];
                if let (Some(name), true) = (secret["name"].as_str(), secret["items"].is_null()) {
                    let files = home.iter().filter(|(file, _)| !OTHERS.contains(&file.as_str()));
                    secrets
                        .entry(name.to_owned())
                        .or_default()
                        .extend(files.map(|(f, b)| (f.clone(), b.clone())));
                }
            }
        }
        Secrets(secrets)
    }

    /// The text under a key of a Secret.
    pub(super) fn value(&self, name: &str, key: &str) -> Option<String> {
        String::from_utf8(self.0.get(name)?.get(key)?.clone()).ok()
    }

    fn files(&self, name: &str) -> Files {
        self.0.get(name).cloned().unwrap_or_default()
    }

    /// What of them a text shows, and what looks as if it were one.
    pub(super) fn shown_in(&self, text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, files) in &self.0 {
            for (key, bytes) in files {
                let secret = String::from_utf8_lossy(bytes);
                if 16 <= secret.trim().len() && text.contains(secret.trim()) {
                    problems.push(format!("`{key}` of the Secret {name} is printed"));
                }
            }
        }
        let is_key = |at: usize| {
            let digits = |from: usize, to: usize| {
                text.get(from..to).is_some_and(|part| part.bytes().all(|c| c.is_ascii_hexdigit()))
            };
            digits(at + 4, at + 14) && text.get(at + 14..at + 15) == Some("_") && digits(at + 15, at + 79)
        };
        if problems.is_empty() && text.match_indices("bms_").any(|(at, _)| is_key(at)) {
            problems.push("the secret of a key is printed".to_owned());
        }
        problems
    }
}

/// A secret of the form that keys have; another form does for everything else.
fn made_up(name: &str, key: &str) -> String {
    let digits = hex::encode(Sha256::digest(format!("{name}/{key}")));
    format!("bms_{}_{digits}", &digits[..10])
}

/// Names of Secrets with keys in them, anywhere in a document.
fn references(value: &Value, into: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(map) => {
            for (field, inner) in map {
                let named = (inner["name"].as_str(), inner["key"].as_str());
                if let ("secretKeyRef" | "credentials", (Some(name), Some(key))) = (field.as_str(), named) {
                    into.insert((name.to_owned(), key.to_owned()));
                }
                if let ("secret", Some(name)) = (field.as_str(), inner["name"].as_str()) {
                    let keys = list(&inner["items"]).iter().filter_map(|item| item["key"].as_str());
                    into.extend(keys.map(|key| (name.to_owned(), key.to_owned())));
                }
                references(inner, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, into)),
        _ => {}
    }
}

fn volumes(document: &Value) -> impl Iterator<Item = &Value> {
    list(&document["spec"]["template"]["spec"]["volumes"]).iter()
}

/// The pod that runs the server.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    spec: &'a Value,
    server: &'a Value,
    secrets: &'a Secrets,
    maps: BTreeMap<&'a str, &'a Value>,
    root: TempDir,
}

/// A pod of `helm test`.
pub(super) struct Test {
    pub(super) name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Test {
    pub(super) fn command(&self, bms: &Path) -> Command {
        let mut command = Command::new(bms);
        running::clean(&mut command).args(&self.arguments).envs(self.environment.iter().cloned());
        command
    }
}

impl<'a> Pod<'a> {
    /// Lays out its files.
    pub(super) fn of(rendered: &'a [Rendered], secrets: &'a Secrets) -> Result<Pod<'a>> {
        let documents = || rendered.iter().map(|one| &one.document);
        let owner =
            documents().find(|one| matches!(one["kind"].as_str(), Some("Deployment" | "StatefulSet")));
        let spec = &owner.context("nothing owns a pod")?["spec"]["template"]["spec"];
        let server = list(&spec["containers"]).iter().find(|one| one["name"] == "server");
        let server = server.context("no container is the server")?;
        let maps = documents().filter(|one| one["kind"] == "ConfigMap");
        let maps = maps.filter_map(|one| Some((one["metadata"]["name"].as_str()?, &one["data"]))).collect();
        let root = tempfile::tempdir().context("failed to make a folder")?;
        let pod = Pod { spec, server, secrets, maps, root };
        for mount in list(&server["volumeMounts"]) {
            let at = pod.at(mount["mountPath"].as_str().context("a mount has no path")?);
            std::fs::create_dir_all(&at)?;
            for (file, bytes) in pod.files_of(&mount["name"]) {
                let path = at.join(file);
                std::fs::create_dir_all(path.parent().context("a file has no folder")?)?;
                std::fs::write(&path, bytes)
                    .with_context(|| format!("failed to write {}", path.display()))?;
            }
        }
        Ok(pod)
    }

    pub(super) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Where a path of the container is here.
    pub(super) fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path.trim_start_matches('/'))
    }

    /// What a volume brings.
    fn files_of(&self, volume: &Value) -> Files {
        let Some(volume) = list(&self.spec["volumes"]).iter().find(|one| one["name"] == *volume) else {
            // One that is claimed, and empty.
            return Files::new();
        };
        let mut files = Files::new();
        if let Some(name) = volume["secret"]["secretName"].as_str() {
            files.extend(self.secrets.files(name));
        }
        if let Some(map) = volume["configMap"]["name"].as_str().and_then(|name| self.maps.get(name)) {
            let data = map.as_object().into_iter().flatten();
            files.extend(
                data.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.as_bytes().to_vec()))),
            );
        }
        for secret in list(&volume["projected"]["sources"]).iter().map(|source| &source["secret"]) {
            let of = self.secrets.files(secret["name"].as_str().unwrap_or_default());
            match secret["items"].as_array() {
                None => files.extend(of),
                Some(items) => files.extend(items.iter().filter_map(|item| {
                    Some((item["path"].as_str()?.to_owned(), of.get(item["key"].as_str()?)?.clone()))
                })),
            }
        }
        files
    }

    fn arguments(&self) -> impl Iterator<Item = &'a str> {
        list(&self.server["args"]).iter().filter_map(Value::as_str)
    }

    /// Whether the server is told this.
    pub(super) fn is_told(&self, argument: &str) -> bool {
        self.arguments().any(|one| one == argument)
    }

    /// The server's command line here.
    pub(super) fn command(&self, bms: &Path, ground: &Ground) -> Result<Command> {
        let mut command = Command::new(bms);
        running::clean(&mut command);
        for argument in self.arguments() {
            command.arg(self.here(argument, ground)?);
        }
        for one in list(&self.server["env"]) {
            // What comes from Secrets here is the database's and the store's, which are others.
            if let (Some(name), Some(value)) = (one["name"].as_str(), one["value"].as_str()) {
                let is_ours = name == "BMS_HOME";
                command.env(name, if is_ours { self.at(value).into_os_string() } else { value.into() });
            }
        }
        command.env("TMPDIR", self.at("/tmp"));
        if let Ground::Shared { environment, .. } = ground {
            command.envs(environment.iter().cloned());
        }
        Ok(command)
    }

    /// An argument with a free port, and paths below the folder.
    fn here(&self, argument: &str, ground: &Ground) -> Result<String> {
        Ok(match argument.split_once('=') {
            Some((name @ ("--listen" | "--nodes-listen"), address)) => {
                let address: SocketAddr =
                    address.parse().with_context(|| format!("`{argument}` is no address"))?;
                format!("{name}={}", SocketAddr::new(address.ip(), 0))
            }
            Some((name @ "--store", _)) => match ground {
                Ground::Folder => format!("{name}={}", self.at("/data/s3").display()),
                Ground::Shared { store, .. } => format!("{name}={store}"),
            },
            Some((name, path)) if path.starts_with('/') => {
                let mut mounts =
                    list(&self.server["volumeMounts"]).iter().filter_map(|one| one["mountPath"].as_str());
                let is_below = mounts.any(|mount| Path::new(path).starts_with(mount));
                ensure!(is_below, "`{argument}` names a place that no volume brings");
                format!("{name}={}", self.at(path).display())
            }
            _ => argument.to_owned(),
        })
    }

    /// The proxy's settings, where there is one.
    pub(super) fn proxy(&self) -> Option<&'a str> {
        let proxy = list(&self.spec["initContainers"]).iter().find(|one| one["name"] == "proxy")?;
        let volume = list(&proxy["volumeMounts"]).iter().find(|one| one["mountPath"] == "/etc/caddy")?;
        let volume = list(&self.spec["volumes"]).iter().find(|one| one["name"] == volume["name"])?;
        self.maps.get(volume["configMap"]["name"].as_str()?)?["Caddyfile"].as_str()
    }

    /// What the proxy gets from Secrets.
    pub(super) fn proxy_environment(&self) -> Vec<(String, String)> {
        let proxy = list(&self.spec["initContainers"]).iter().find(|one| one["name"] == "proxy");
        proxy.map(|proxy| self.secret_variables(proxy)).unwrap_or_default()
    }

    fn secret_variables(&self, container: &Value) -> Vec<(String, String)> {
        let value = |one: &Value| {
            let of = &one["valueFrom"]["secretKeyRef"];
            Some((
                one["name"].as_str()?.to_owned(),
                self.secrets.value(of["name"].as_str()?, of["key"].as_str()?)?,
            ))
        };
        list(&container["env"]).iter().filter_map(value).collect()
    }

    /// Probes by name, and what they ask.
    pub(super) fn probes(&self) -> Vec<(&'static str, String)> {
        let path =
            |probe: &'static str| Some((probe, self.server[probe]["httpGet"]["path"].as_str()?.to_owned()));
        ["startupProbe", "livenessProbe", "readinessProbe"].into_iter().filter_map(path).collect()
    }

    /// Probes that ask at another port than the one at which the pod answers.
    pub(super) fn problems(&self) -> Vec<String> {
        let containers = list(&self.spec["containers"]).iter().chain(list(&self.spec["initContainers"]));
        let mut ports = containers.flat_map(|one| list(&one["ports"]));
        let http =
            ports.find(|one| one["name"] == "http").map_or(Value::Null, |one| one["containerPort"].clone());
        let listen = self.arguments().find_map(|one| one.strip_prefix("--listen="));
        let listens = listen.and_then(|one| one.parse::<SocketAddr>().ok()).map(|address| address.port());
        let mut problems = Vec::new();
        for (probe, _) in self.probes() {
            if self.server[probe]["httpGet"]["port"] != http {
                problems.push(format!("the {probe} asks at another port than `http`, {http}"));
            }
            let is_encrypted = self.arguments().any(|one| one.starts_with("--tls-cert="));
            if (self.server[probe]["httpGet"]["scheme"] == "HTTPS") != is_encrypted {
                problems.push(format!("the {probe} asks by another protocol than the server speaks"));
            }
        }
        if self.proxy().is_none() && listens.map(Value::from) != Some(http.clone()) {
            problems.push(format!("the port `http` is {http}, and the server listens at {listens:?}"));
        }
        problems
    }

    /// The pods of `helm test`, which ask at `door` what they would ask the Service.
    pub(super) fn tests(&self, rendered: &[Rendered], door: SocketAddr) -> Vec<Test> {
        let pods = rendered.iter().filter(|one| one.document["kind"] == "Pod");
        pods.flat_map(|one| list(&one.document["spec"]["containers"]))
            .map(|container| {
                let told = list(&container["args"]).iter().filter_map(Value::as_str);
                let arguments = told.map(|argument| match argument.split_once('=') {
                    Some(("--server", url)) if url.starts_with("https://") => {
                        format!("--server=https://{door}")
                    }
                    Some(("--server", _)) => format!("--server=http://{door}"),
                    Some((name @ "--ca-file", path)) => format!("{name}={}", self.at(path).display()),
                    _ => argument.to_owned(),
                });
                let mut environment = self.secret_variables(container);
                environment.push(("BMS_HOME".to_owned(), self.at("/tmp/home-of-test").display().to_string()));
                let name = container["name"].as_str().unwrap_or_default().to_owned();
                Test { name, arguments: arguments.collect(), environment }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
