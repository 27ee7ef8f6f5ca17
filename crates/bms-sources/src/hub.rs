//! A Hugging Face hub, or a server that answers as one.
//!
//! What is asked: `GET /api/models/{name}/revision/{revision}`, which names the commit; `GET
//! /api/models/{name}/tree/{commit}?recursive=true`, in pages that a `Link` header joins; and the files under
//! `/{name}/resolve/{commit}/{path}`, which may redirect to where large files lie.
//! <https://huggingface.co/docs/hub/api>, and `hf_api.py` in <https://github.com/huggingface/huggingface_hub>.

use std::path::PathBuf;

use bms_wire::{Code, Error, Result, limits};
use serde::Deserialize;
use url::Url;

use crate::auth::{Scope, Token};
use crate::digest::Expected;
use crate::http::{Answer, Ask, Http, shown};
use crate::patterns::Patterns;
use crate::plan::{Item, Place, Plan};
use crate::retry::Tries;
use crate::source::{HubKind, encode};

/// The branch that is meant when none is named.
const DEFAULT_REVISION: &str = "main";

/// A hub and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Hub<'a> {
    pub(crate) http: &'a Http,
    pub(crate) endpoint: &'a Url,
    pub(crate) token: Option<&'a Token>,
    pub(crate) cache: Option<&'a std::path::Path>,
    pub(crate) kind: HubKind,
    pub(crate) repository: &'a str,
    pub(crate) tries: Tries,
}

/// An entry of a repository's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path.
    pub path: String,
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Bytes of the file.
    pub size: u64,
    /// What the file must be.
    pub expected: Expected,
}

/// One page of a tree.
pub type Page = Vec<Entry>;

#[derive(Deserialize)]
struct RawEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<RawLfs>,
}

#[derive(Deserialize)]
struct RawLfs {
    oid: String,
    size: u64,
}

#[derive(Deserialize)]
struct Info {
    sha: Option<String>,
}

/// Reads one page of a tree. Paths are taken as they are: whoever uses them checks them.
///
/// # Errors
/// [`Code::InvalidInput`] when it is something else, or names digests that are none.
pub fn parse_page(bytes: &[u8]) -> Result<Page> {
    let invalid = |what: String| Error::new(Code::InvalidInput, format!("the listing {what}"));
    let raw: Vec<RawEntry> =
        serde_json::from_slice(bytes).map_err(|e| invalid(format!("is malformed: {e}")).because(e))?;
    if limits::PULL_FILES_MAX < raw.len() {
        return Err(Error::new(
            Code::TooLarge,
            format!("a page lists over {} files", limits::PULL_FILES_MAX),
        ));
    }
    let mut page = Vec::with_capacity(raw.len());
    for entry in raw {
        let shown: String = entry.path.chars().take(80).collect();
        let is_folder = match entry.kind.as_str() {
            "file" => false,
            "directory" => true,
            _ => return Err(invalid(format!("has {shown:?}, which is neither file nor folder"))),
        };
        let (size, expected) = match entry.lfs {
            _ if is_folder => (0, Expected::Unknown),
            Some(lfs) => match hex(lfs.oid.strip_prefix("sha256:").unwrap_or(&lfs.oid), 64) {
                Some(sha256) => (lfs.size, Expected::Sha256(sha256)),
                None => return Err(invalid(format!("names no SHA-256 of {shown:?}"))),
            },
            None => match hex(&entry.oid, 40) {
                Some(oid) => (entry.size, Expected::GitBlob(oid)),
                None => return Err(invalid(format!("names no digest of {shown:?}"))),
            },
        };
        page.push(Entry { path: entry.path, is_folder, size, expected });
    }
    Ok(page)
}

fn hex(text: &str, digits: usize) -> Option<String> {
    (text.len() == digits && text.bytes().all(|c| c.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

impl Hub<'_> {
    /// What is there.
    pub(crate) fn plan(
        &self,
        source: String,
        revision: Option<&str>,
        path: Option<&str>,
        patterns: &Patterns,
    ) -> Result<Plan> {
        let scope = self.token.map(|token| Scope::new(token.clone(), self.endpoint));
        let commit = self.commit(revision.unwrap_or(DEFAULT_REVISION), scope.as_ref())?;
        let entries = self.tree(&commit, scope.as_ref())?;
        let single = path.is_some_and(|path| entries.iter().any(|entry| entry.path == path));
        let inside = |entry: &&Entry| match path {
            None => true,
            Some(path) if single => entry.path == path,
            Some(path) => entry.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')),
        };
        let mut items = Vec::new();
        for entry in entries.iter().filter(inside).filter(|entry| patterns.wants(&entry.path)) {
            // What is no plain path must not become part of an address either.
            bms_bundle::check_path(&entry.path)
                .map_err(|e| e.while_doing(format_args!("take over what `{source}` lists")))?;
            let name = entry.path.rsplit('/').next().unwrap_or(&entry.path);
            items.push(Item {
                path: if single { name.to_owned() } else { entry.path.clone() },
                size: Some(entry.size),
                expected: entry.expected.clone(),
                cached: self.cached(&entry.expected),
                place: Place::Web {
                    url: self.address(&format!(
                        "{}{}/resolve/{commit}/{}",
                        self.kind.prefix(),
                        self.repository,
                        encode(&entry.path, true)
                    ))?,
                    scope: scope.clone(),
                    commit: Some(commit.clone()),
                },
            });
        }
        Ok(Plan { source, revision: Some(commit), single, items })
    }

    fn address(&self, path: &str) -> Result<Url> {
        let base = self.endpoint.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}/{path}"))
            .map_err(|e| Error::new(Code::InvalidRequest, format!("`{base}` is no address: {e}")).because(e))
    }

    /// The commit a revision means now: all that follows is asked of that one.
    fn commit(&self, revision: &str, scope: Option<&Scope>) -> Result<String> {
        let url = self.address(&format!(
            "api/{}/{}/revision/{}",
            self.kind.plural(),
            self.repository,
            encode(revision, false)
        ))?;
        let ask = Ask::get(&url, scope);
        let (_, body) = self.http.small(&ask, limits::SOURCE_LISTING_BYTES_MAX, self.tries)?;
        let info: Info = serde_json::from_slice(&body).map_err(|e| odd(&url, &e.to_string()))?;
        let commit = info.sha.and_then(|sha| hex(&sha, 40)).ok_or_else(|| odd(&url, "it names no commit"))?;
        if hex(revision, 40).is_some_and(|asked| asked != commit) {
            return Err(odd(&url, "it answers with another commit than the one asked for"));
        }
        Ok(commit)
    }

    /// All files of a commit.
    fn tree(&self, commit: &str, scope: Option<&Scope>) -> Result<Vec<Entry>> {
        let plural = self.kind.plural();
        let mut url =
            self.address(&format!("api/{plural}/{}/tree/{commit}?recursive=true", self.repository))?;
        let mut entries = Vec::new();
        for _ in 0..limits::SOURCE_PAGES_MAX {
            let (answer, body) =
                self.http.small(&Ask::get(&url, scope), limits::SOURCE_LISTING_BYTES_MAX, self.tries)?;
            let page =
                parse_page(&body).map_err(|e| e.while_doing(format_args!("read `{}`", shown(&url))))?;
            entries.extend(page.into_iter().filter(|entry| !entry.is_folder));
            // Patterns come later: what is listed at all is bounded, too.
            if limits::PULL_FILES_MAX * 10 < entries.len() {
                return Err(Error::new(Code::TooLarge, "the repository has too many files"));
            }
            let next = Answer::text(&answer.headers, "link").and_then(next_page);
            match next {
                None => return Ok(entries),
                Some(next) => {
                    let to = url.join(&next).map_err(|e| odd(&url, &e.to_string()))?;
                    if to.origin() != self.endpoint.origin() {
                        return Err(odd(&url, "its next page lies on another host"));
                    }
                    url = to;
                }
            }
        }
        Err(Error::new(Code::TooLarge, format!("the listing has over {} pages", limits::SOURCE_PAGES_MAX)))
    }

    /// Where the hub's own client keeps a file with this content.
    fn cached(&self, expected: &Expected) -> Option<PathBuf> {
        let name = format!("{}--{}", self.kind.plural(), self.repository.replace('/', "--"));
        let path = self.cache?.join(name).join("blobs").join(expected.digest()?);
        path.is_file().then_some(path)
    }
}

fn odd(url: &Url, why: &str) -> Error {
    let what = format!("`{}` does not answer as a hub does: {why}", shown(url));
    Error::new(Code::Unavailable, what).hint("Check HF_ENDPOINT and the name.")
}

/// The address of the next page in a `Link` header (RFC 8288).
pub(crate) fn next_page(header: &str) -> Option<String> {
    header.split(',').find_map(|link| {
        let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = parameters.split(';').any(|parameter| {
            let parameter = parameter.trim().replace(' ', "");
            parameter.eq_ignore_ascii_case("rel=\"next\"") || parameter.eq_ignore_ascii_case("rel=next")
        });
        is_next.then(|| target.to_owned())
    })
}

#[cfg(test)]
mod tests;
