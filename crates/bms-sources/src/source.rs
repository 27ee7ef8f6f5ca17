//! Where something comes from, as one writes it down.

use bms_wire::{Code, Error, Result, limits};
use url::Url;

/// What a hub keeps under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubKind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

impl HubKind {
    /// The kind's name in the hub's API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            HubKind::Model => "models",
            HubKind::Dataset => "datasets",
        }
    }

    /// What stands before a repository's name in the addresses of its files.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            HubKind::Model => "",
            HubKind::Dataset => "datasets/",
        }
    }
}

/// Where something comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `hf://[datasets/]OWNER/NAME[@REVISION][/PATH]`: a repository of a hub, a folder of it or one file.
    Hub {
        /// Model or data set.
        kind: HubKind,
        /// `OWNER/NAME`, or a name alone.
        repository: String,
        /// Branch, tag or commit; the default branch when absent.
        revision: Option<String>,
        /// A file or folder inside.
        path: Option<String>,
    },
    /// `https://…`, with `#sha256=DIGEST` when it is known: one file.
    Web {
        /// Its address, without a fragment.
        url: Url,
        /// Hex SHA-256 it must have.
        sha256: Option<String>,
    },
    /// `file:///…`: a file or folder of this machine.
    File {
        /// Its path.
        path: std::path::PathBuf,
    },
    /// `oci://REGISTRY/NAME[:TAG][@DIGEST]`: an artifact of an OCI registry.
    Oci {
        /// Host and port.
        registry: String,
        /// The repository.
        repository: String,
        /// The tag; `latest` when neither it nor a digest is given.
        tag: Option<String>,
        /// `sha256:…` of the manifest.
        digest: Option<String>,
    },
}

impl Source {
    /// Whether this text names a source rather than a path of this machine.
    pub fn is_source(text: &str) -> bool {
        ["hf://", "https://", "http://", "file://", "oci://"].iter().any(|scheme| text.starts_with(scheme))
    }

    /// Reads a source.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] with what is wrong.
    pub fn parse(text: &str) -> Result<Source> {
        if limits::SOURCE_BYTES_MAX < text.len() {
            return Err(invalid(format!("a source has at most {} bytes", limits::SOURCE_BYTES_MAX)));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            let shown: String = text.chars().take(80).collect();
            invalid(format!("`{shown}` is no source"))
                .hint("Name one as hf://OWNER/NAME, https://HOST/FILE, oci://HOST/NAME:TAG or file:///PATH.")
        })?;
        match scheme {
            "hf" => hub(rest),
            "http" | "https" => web(text),
            "file" => file(text),
            "oci" => oci(rest),
            _ => {
                let shown: String = scheme.chars().take(20).collect();
                Err(invalid(format!("`{shown}://` is not supported"))
                    .hint("hf://, https://, oci:// and file:// are."))
            }
        }
    }

    /// What the result is called when nobody says: the last part of the name.
    pub fn default_name(&self) -> String {
        let last = |text: &str| text.rsplit('/').find(|part| !part.is_empty()).unwrap_or("model").to_owned();
        match self {
            Source::Hub { path: Some(path), .. } => last(path),
            Source::Hub { repository, .. } | Source::Oci { repository, .. } => last(repository),
            Source::Web { url, .. } => web_name(url).unwrap_or_else(|_| "model".to_owned()),
            Source::File { path } => path
                .file_name()
                .map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned()),
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Hub { kind, repository, revision, path } => {
                // An owner of that name would be read as the kind.
                let owner = repository.split('/').next().unwrap_or_default();
                let ambiguous = repository.contains('/') && matches!(owner, "datasets" | "models");
                let prefix = if ambiguous && *kind == HubKind::Model { "models/" } else { kind.prefix() };
                write!(f, "hf://{prefix}{repository}")?;
                if let Some(revision) = revision {
                    write!(f, "@{}", encode(revision, false))?;
                }
                path.as_ref().map_or(Ok(()), |path| write!(f, "/{path}"))
            }
            Source::Web { url, sha256: None } => write!(f, "{url}"),
            Source::Web { url, sha256: Some(sha256) } => write!(f, "{url}#sha256={sha256}"),
            Source::File { path } => write!(f, "file://{}", path.display()),
            Source::Oci { registry, repository, tag, digest } => {
                write!(f, "oci://{registry}/{repository}")?;
                tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
                digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
            }
        }
    }
}

fn invalid(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, what)
}

/// Percent-encodes a segment of a path, or a whole path whose slashes stay.
pub(crate) fn encode(text: &str, slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            b'/' if slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Undoes percent-encoding. `None` when the bytes are not UTF-8 or a percent sign stands alone.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| (byte? as char).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

fn hub(rest: &str) -> Result<Source> {
    let wrong = |why: &str| {
        invalid(format!("`hf://{}` {why}", rest.chars().take(120).collect::<String>()))
            .hint("Name a repository as hf://OWNER/NAME, hf://OWNER/NAME@REVISION or hf://OWNER/NAME/PATH.")
    };
    let (kind, rest) = match rest.split_once('/') {
        Some(("datasets", rest)) => (HubKind::Dataset, rest),
        Some(("models", rest)) => (HubKind::Model, rest),
        _ => (HubKind::Model, rest),
    };
    let mut parts = rest.splitn(3, '/');
    let first = parts.next().unwrap_or_default();
    // A name without owner is told by its revision, or by standing alone.
    let (name, after) = match (first.contains('@'), parts.next()) {
        (true, _) | (false, None) => (first.to_owned(), rest.split_once('/').map_or("", |(_, rest)| rest)),
        (false, Some(second)) => (format!("{first}/{second}"), parts.next().unwrap_or_default()),
    };
    let (repository, revision, path) = match name.split_once('@') {
        None => (name.clone(), None, after.to_owned()),
        Some((repository, revision)) => {
            let (revision, path) = with_refs(revision, after);
            let revision = decode(&revision).ok_or_else(|| wrong("has a malformed revision"))?;
            if revision.is_empty() || 256 < revision.len() || revision.chars().any(char::is_control) {
                return Err(wrong("has a malformed revision"));
            }
            (repository.to_owned(), Some(revision), path)
        }
    };
    if !repository.split('/').all(is_hub_name) {
        return Err(wrong("names no repository"));
    }
    let path = path.trim_end_matches('/');
    if !path.is_empty() {
        bms_bundle::check_path(path).map_err(|e| wrong("names an impossible file").because(e))?;
    }
    let path = (!path.is_empty()).then(|| path.to_owned());
    Ok(Source::Hub { kind, repository, revision, path })
}

/// `refs/pr/1` and `refs/convert/parquet` are revisions whose slashes people write as they are.
fn with_refs(revision: &str, after: &str) -> (String, String) {
    let mut parts = after.splitn(3, '/');
    match (revision, parts.next(), parts.next()) {
        ("refs", Some(kind @ ("pr" | "convert")), Some(name)) => {
            (format!("refs/{kind}/{name}"), parts.next().unwrap_or_default().to_owned())
        }
        _ => (revision.to_owned(), after.to_owned()),
    }
}

/// <https://huggingface.co/docs/huggingface_hub>: `validate_repo_id`.
fn is_hub_name(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    !name.is_empty()
        && name.len() <= 96
        && name.bytes().all(plain)
        && !name.starts_with(['.', '-'])
        && !name.ends_with(['.', '-'])
        && !name.contains("..")
        && !name.contains("--")
}

fn web(text: &str) -> Result<Source> {
    let mut url =
        Url::parse(text).map_err(|e| invalid(format!("the address is malformed: {e}")).because(e))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(invalid("the address names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("the address holds a name or password")
            .hint("Put a token into a file and name it with --token-file."));
    }
    let sha256 = match url.fragment() {
        None | Some("") => None,
        Some(fragment) => {
            let digest = fragment.strip_prefix("sha256=").ok_or_else(|| {
                invalid("what follows `#` is not understood").hint("Write #sha256=DIGEST, or nothing.")
            })?;
            Some(check_sha256(digest)?)
        }
    };
    url.set_fragment(None);
    web_name(&url)?;
    Ok(Source::Web { url, sha256 })
}

/// 64 hex digits, in lower case.
///
/// # Errors
/// [`Code::InvalidRequest`].
pub(crate) fn check_sha256(digest: &str) -> Result<String> {
    match digest.len() == 64 && digest.bytes().all(|c| c.is_ascii_hexdigit()) {
        true => Ok(digest.to_ascii_lowercase()),
        false => Err(invalid("a SHA-256 has 64 hex digits")),
    }
}

/// The name of the file at an address.
pub(crate) fn web_name(url: &Url) -> Result<String> {
    let last = url.path().rsplit('/').next().unwrap_or_default();
    let name = decode(last).filter(|name| !name.contains('/')).unwrap_or_default();
    match bms_bundle::check_path(&name) {
        Ok(()) => Ok(name),
        Err(_) => Err(invalid("the address does not end in the name of a file")),
    }
}

fn file(text: &str) -> Result<Source> {
    let url = Url::parse(text).map_err(|e| invalid(format!("the address is malformed: {e}")).because(e))?;
    let path = url.to_file_path().map_err(|()| {
        invalid("a file:// address names a path of this machine").hint("Write file:///absolute/path.")
    })?;
    Ok(Source::File { path })
}

/// <https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests>.
fn oci(rest: &str) -> Result<Source> {
    let wrong = |why: &str| {
        invalid(format!("`oci://{}` {why}", rest.chars().take(120).collect::<String>()))
            .hint("Name an artifact as oci://HOST[:PORT]/NAME:TAG or oci://HOST/NAME@sha256:DIGEST.")
    };
    let (registry, rest) = rest.split_once('/').ok_or_else(|| wrong("names no repository"))?;
    let host = Url::parse(&format!("https://{registry}/")).map_err(|e| wrong("has no host").because(e))?;
    if host.path() != "/" || host.host_str().is_none_or(str::is_empty) || registry.contains(['@', '?', '#']) {
        return Err(wrong("has no host"));
    }
    let (rest, digest) = match rest.split_once('@') {
        None => (rest, None),
        Some((rest, digest)) => {
            let hex = digest.strip_prefix("sha256:").ok_or_else(|| wrong("has no SHA-256 after `@`"))?;
            (rest, Some(format!("sha256:{}", check_sha256(hex)?)))
        }
    };
    let (repository, tag) = match rest.rsplit_once(':') {
        None => (rest, None),
        Some((repository, tag)) => (repository, Some(tag.to_owned())),
    };
    let component = |part: &str| {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_' | b'.');
        !part.is_empty() && part.bytes().all(plain) && !part.starts_with(['.', '-', '_'])
    };
    if 255 < repository.len() || !repository.split('/').all(component) {
        return Err(wrong("names no repository"));
    }
    let is_tag = |tag: &str| {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        !tag.is_empty() && tag.len() <= 128 && tag.bytes().all(plain) && !tag.starts_with(['.', '-'])
    };
    if !tag.as_deref().is_none_or(is_tag) {
        return Err(wrong("has a malformed tag"));
    }
    Ok(Source::Oci { registry: registry.to_owned(), repository: repository.to_owned(), tag, digest })
}

#[cfg(test)]
mod tests;
