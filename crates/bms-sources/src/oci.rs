//! An artifact of an OCI registry: a manifest, and blobs by digest.
//!
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>; the token dance is that of
//! <https://distribution.github.io/distribution/spec/auth/token/>. A layer's file is named by the annotations of ORAS or of
//! ModelPack (<https://github.com/modelpack/model-spec>), or, as Ollama does it, by its media type.

use std::collections::BTreeMap;

use bms_wire::{Code, Error, Result, limits};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use crate::auth::{Scope, Token};
use crate::digest::Expected;
use crate::http::{Answer, Ask, Http, is_loopback, shown};
use crate::patterns::Patterns;
use crate::plan::{Item, Place, Plan};
use crate::retry::Tries;
use crate::source::check_sha256;

/// The forms of a manifest that are understood.
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";
/// Annotations that name a layer's file: of ORAS, of ModelPack, and of ModelPack before it had that name.
const NAMES: [&str; 3] =
    ["org.opencontainers.image.title", "org.cncf.model.filepath", "org.cnai.model.filepath"];
/// Says that a layer is a packed folder.
const PACKED: &str = "io.deis.oras.content.unpack";
/// What Ollama calls its layers, and the files they stand for.
const OLLAMA: [(&str, &str); 7] = [
    ("application/vnd.ollama.image.model", "model.gguf"),
    ("application/vnd.ollama.image.projector", "projector.gguf"),
    ("application/vnd.ollama.image.adapter", "adapter.gguf"),
    ("application/vnd.ollama.image.template", "template.txt"),
    ("application/vnd.ollama.image.system", "system.txt"),
    ("application/vnd.ollama.image.params", "params.json"),
    ("application/vnd.ollama.image.license", "LICENSE"),
];

/// A repository of a registry.
#[derive(Debug)]
pub(crate) struct Oci<'a> {
    pub(crate) http: &'a Http,
    pub(crate) registry: &'a str,
    pub(crate) repository: &'a str,
    pub(crate) token: Option<&'a Token>,
    pub(crate) tries: Tries,
}

/// What a manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// The files of an artifact: name, bytes, hex SHA-256.
    Files(Vec<(String, u64, String)>),
    /// Hex SHA-256 of the one manifest an index leads to.
    Index(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// Reads a manifest or an index. Names are taken as they are: whoever uses them checks them.
///
/// # Errors
/// [`Code::InvalidInput`] when it is something else, [`Code::UnsupportedModel`] when its layers are packed folders or it leads
/// to several artifacts.
pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Code::InvalidInput, format!("the manifest is malformed: {e}")).because(e))?;
    if limits::PULL_FILES_MAX < raw.layers.len().max(raw.manifests.len()) {
        let what = format!("the manifest lists over {} blobs", limits::PULL_FILES_MAX);
        return Err(Error::new(Code::TooLarge, what));
    }
    if let [one] = raw.manifests.as_slice() {
        return Ok(Manifest::Index(one.sha256()?));
    }
    if !raw.manifests.is_empty() {
        let what = format!("the name stands for {} artifacts", raw.manifests.len());
        return Err(
            Error::new(Code::UnsupportedModel, what).hint("Name one by its digest: NAME@sha256:DIGEST.")
        );
    }
    let files = raw.layers.iter().map(|layer| Ok((layer.name()?, layer.size, layer.sha256()?)));
    Ok(Manifest::Files(files.collect::<Result<_>>()?))
}

impl Descriptor {
    fn sha256(&self) -> Result<String> {
        let shown: String = self.digest.chars().take(80).collect();
        let hex = self.digest.strip_prefix("sha256:").and_then(|hex| check_sha256(hex).ok());
        hex.ok_or_else(|| Error::new(Code::InvalidInput, format!("{shown:?} is not the digest of a blob")))
    }

    /// The name of the layer's file.
    fn name(&self) -> Result<String> {
        let annotation = |key: &str| self.annotations.as_ref().and_then(|all| all.get(key));
        let kind: String = self.media_type.chars().filter(|c| !c.is_control()).take(100).collect();
        let packed = annotation(PACKED).is_some_and(|value| value == "true")
            || kind.split(['.', '+']).any(|part| part == "tar");
        if packed {
            let what = format!("a layer of type `{kind}` is a packed folder");
            return Err(Error::new(Code::UnsupportedModel, what)
                .hint("Packed layers are not unpacked; push the files one by one, as ORAS and ModelPack's raw layers do."));
        }
        let named = NAMES.iter().find_map(|key| annotation(key)).cloned();
        let by_kind = || OLLAMA.iter().find(|(name, _)| *name == kind).map(|(_, file)| (*file).to_owned());
        named.or_else(by_kind).ok_or_else(|| {
            Error::new(Code::UnsupportedModel, format!("a layer of type `{kind}` has no file name"))
                .hint("An image that runs is no model; layers of a model say what their files are called.")
        })
    }
}

impl Oci<'_> {
    /// What is there.
    pub(crate) fn plan(
        &self,
        source: String,
        tag: Option<&str>,
        digest: Option<&str>,
        patterns: &Patterns,
    ) -> Result<Plan> {
        let root = self.root()?;
        let mut scope = self.token.map(|token| Scope::new(token.clone(), &root));
        let mut reference = digest.or(tag).unwrap_or("latest").to_owned();
        let mut revision = None;
        // An index leads to a manifest, and that to files.
        for _ in 0..2 {
            let bytes = self.manifest(&root, &reference, &mut scope)?;
            let found = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
            if reference.starts_with("sha256:") && reference != found {
                let what = format!("the manifest's digest is {found}, not {reference}");
                return Err(Error::new(Code::Tampered, what));
            }
            let revision = revision.get_or_insert(found).clone();
            match parse_manifest(&bytes)? {
                Manifest::Index(next) => reference = format!("sha256:{next}"),
                Manifest::Files(files) => {
                    let items = self.items(files, &root, scope.as_ref(), patterns)?;
                    return Ok(Plan { source, revision: Some(revision), single: false, items });
                }
            }
        }
        Err(Error::new(Code::UnsupportedModel, "an index leads to an index"))
    }

    fn items(
        &self,
        files: Vec<(String, u64, String)>,
        root: &Url,
        scope: Option<&Scope>,
        patterns: &Patterns,
    ) -> Result<Vec<Item>> {
        let wanted = files.into_iter().filter(|(name, _, _)| patterns.wants(name));
        let item = |(path, size, sha256): (String, u64, String)| {
            let url = self.address(root, &format!("blobs/sha256:{sha256}"))?;
            Ok(Item {
                path,
                size: Some(size),
                expected: Expected::Sha256(sha256),
                place: Place::Web { url, scope: scope.cloned(), commit: None },
                cached: None,
            })
        };
        wanted.map(item).collect()
    }

    /// The registry's address: encrypted, but on this machine.
    fn root(&self) -> Result<Url> {
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/", self.registry)).map_err(|e| {
                Error::new(Code::InvalidRequest, format!("`{}` is no host", self.registry)).because(e)
            })
        };
        let plain = url("http")?;
        if is_loopback(&plain) { Ok(plain) } else { url("https") }
    }

    fn address(&self, root: &Url, rest: &str) -> Result<Url> {
        let text = format!("{root}v2/{}/{rest}", self.repository);
        Url::parse(&text)
            .map_err(|e| Error::new(Code::InvalidRequest, format!("`{text}` is no address")).because(e))
    }

    /// A manifest, with a token fetched for it when the registry asks for one.
    fn manifest(&self, root: &Url, reference: &str, scope: &mut Option<Scope>) -> Result<Vec<u8>> {
        let url = self.address(root, &format!("manifests/{reference}"))?;
        for _ in 0..2 {
            let ask = Ask { challenged: true, ..Ask::get(&url, scope.as_ref()) }.with("accept", ACCEPTED);
            let (answer, body) = self.http.small(&ask, limits::CONTROL_BODY_BYTES_MAX, self.tries)?;
            if answer.status != 401 {
                return Ok(body);
            }
            if scope.is_some() {
                break;
            }
            let challenge = Answer::text(&answer.headers, "www-authenticate").and_then(challenge);
            let Some(challenge) = challenge else { break };
            *scope = Some(Scope::new(self.fetch_token(root, &challenge)?, root));
        }
        Err(Error::new(Code::Unauthenticated, format!("`{}` asks for credentials", shown(&url)))
            .hint("Put a token of the registry into a file and name it with --token-file."))
    }

    /// A token for everybody.
    fn fetch_token(&self, root: &Url, challenge: &BTreeMap<String, String>) -> Result<Token> {
        let odd = || {
            Error::new(
                Code::Unavailable,
                format!("`{root}` asks for a token in a way that is not understood"),
            )
        };
        let mut url = challenge.get("realm").and_then(|realm| Url::parse(realm).ok()).ok_or_else(odd)?;
        if !is_loopback(root) && is_loopback(&url) {
            return Err(odd());
        }
        let scope = format!("repository:{}:pull", self.repository);
        if let Some(service) = challenge.get("service") {
            url.query_pairs_mut().append_pair("service", service);
        }
        url.query_pairs_mut().append_pair("scope", &scope);
        let (_, body) = self.http.small(&Ask::get(&url, None), limits::STATEMENT_BYTES_MAX, self.tries)?;
        #[derive(Deserialize)]
        struct Granted {
            token: Option<String>,
            access_token: Option<String>,
        }
        let granted: Granted = serde_json::from_slice(&body).map_err(|_| odd())?;
        Token::new(&granted.token.or(granted.access_token).ok_or_else(odd)?).map_err(|_| odd())
    }
}

/// The parameters of a `Bearer` challenge (RFC 6750).
fn challenge(header: &str) -> Option<BTreeMap<String, String>> {
    let rest = header.trim().strip_prefix("Bearer ").or_else(|| header.trim().strip_prefix("bearer "))?;
    let mut parameters = BTreeMap::new();
    let mut rest = rest.trim_start();
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').map_or((after, ""), |(value, after)| (value, after)),
        };
        parameters.insert(key.trim().to_ascii_lowercase(), value.to_owned());
        rest = after.trim_start_matches([',', ' ']);
    }
    Some(parameters)
}

#[cfg(test)]
mod tests;
