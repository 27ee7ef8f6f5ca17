//! Repositories, revisions and trees as the hub tells them.

use std::collections::BTreeSet;
use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use bms_wire::api::{FileRef, Version};
use bms_wire::{Code, Error, Result};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::revision::{self, Revision};
use crate::api::Api;

/// Entries of one page, as the hub's own.
const PAGE_ENTRIES: usize = 1000;
/// Versions whose commits one answer about branches and tags tells.
const REFS_MAX: usize = 200;

/// Which entries of a tree.
#[derive(Debug)]
pub(super) struct PageOf<'a> {
    pub(super) folder: &'a str,
    pub(super) after: &'a str,
    pub(super) deep: bool,
    /// `http` or `https`, as the server is asked.
    pub(super) scheme: &'static str,
}

/// A page, and where the next is.
#[derive(Debug)]
pub(super) struct Listed {
    entries: Vec<Value>,
    next: Option<HeaderValue>,
}

impl IntoResponse for Listed {
    fn into_response(self) -> Response {
        let mut response = axum::Json(self.entries).into_response();
        if let Some(next) = self.next {
            response.headers_mut().insert(header::LINK, next);
        }
        response
    }
}

/// Bytes as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-1 that git gives some content.
fn git_blob(content: &str) -> String {
    hex(&Sha1::digest(format!("blob {}\0{content}", content.len())))
}

/// A file in the terms of Git's extension for large files: the digest of the pointer that stands for it, and its own.
async fn large_file(api: &Api, file: &FileRef) -> Result<(String, Value)> {
    let sha256 = hex(&api.registry.blob_sha256(&file.blake3).await?);
    let size = file.size;
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n");
    Ok((
        git_blob(&pointer),
        json!({ "oid": sha256, "sha256": sha256, "size": size, "pointerSize": pointer.len() }),
    ))
}

/// `GET /api/models/{model}/revision/{revision}`.
pub(super) async fn info(api: &Api, found: &Revision, blobs: bool) -> Result<Value> {
    let Version { model, task, created_ms, updated_ms, tags, .. } = &found.version;
    let mut siblings = Vec::with_capacity(found.version.files.len());
    for file in &found.version.files {
        let mut sibling = json!({ "rfilename": file.path });
        if blobs {
            let (oid, lfs) = large_file(api, file).await?;
            sibling["size"] = json!(file.size);
            sibling["blobId"] = json!(oid);
            sibling["lfs"] = lfs;
        }
        siblings.push(sibling);
    }
    let mut labels = vec![format!("version:{}", found.version.version)];
    labels.extend(tags.iter().map(|(key, value)| format!("{key}:{value}")));
    Ok(json!({
        "_id": &found.commit[..24],
        "id": model,
        "modelId": model,
        "sha": found.commit,
        "private": false,
        "gated": false,
        "disabled": false,
        "downloads": 0,
        "likes": 0,
        "tags": labels,
        "pipeline_tag": task,
        "createdAt": moment(*created_ms),
        "lastModified": moment(*updated_ms),
        "siblings": siblings,
        "usedStorage": found.version.size_bytes,
    }))
}

/// As the hub writes times: with milliseconds, which its client insists on.
fn moment(at_ms: i64) -> String {
    let seconds = bms_bundle::time_text(at_ms.div_euclid(1000) * 1000);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), at_ms.rem_euclid(1000))
}

/// `GET /api/models/{model}/refs`: aliases are branches, versions are tags.
pub(super) async fn refs(api: &Api, model: &str) -> Result<Value> {
    // Also checks that there is one.
    let main = revision::find(api, model, revision::DEFAULT).await?;
    let mut branches = vec![json!({ "name": "main", "ref": "refs/heads/main", "targetCommit": main.commit })];
    let mut tags = Vec::new();
    for version in api.registry.model(model).await?.versions.iter().take(REFS_MAX) {
        // What must not be handed out is not listed.
        let Ok(found) = revision::open(api, model, version.version).await else { continue };
        let number = version.version;
        tags.push(json!({ "name": format!("v{number}"), "ref": format!("refs/tags/v{number}"), "targetCommit": found.commit }));
        for alias in version.aliases.iter().filter(|alias| *alias != revision::DEFAULT) {
            let name = format!("refs/heads/{alias}");
            branches.push(json!({ "name": alias, "ref": name, "targetCommit": found.commit }));
        }
    }
    Ok(json!({ "branches": branches, "converts": [], "tags": tags }))
}

/// `GET /api/models/{model}/tree/{revision}/{path}`.
pub(super) async fn tree(
    api: &Api,
    found: &Revision,
    page: &PageOf<'_>,
    headers: &HeaderMap,
) -> Result<Listed> {
    let prefix = if page.folder.is_empty() { String::new() } else { format!("{}/", page.folder) };
    let mut names = BTreeSet::new();
    for file in &found.version.files {
        let Some(inside) = file.path.strip_prefix(&prefix) else { continue };
        let folders = inside.match_indices('/').map(|(at, _)| &file.path[..prefix.len() + at]);
        match (page.deep, inside.split_once('/')) {
            (true, _) => {
                names.extend(folders.map(|folder| (folder, true)).chain([(file.path.as_str(), false)]))
            }
            (false, Some((first, _))) => drop(names.insert((&file.path[..prefix.len() + first.len()], true))),
            (false, None) => drop(names.insert((file.path.as_str(), false))),
        }
    }
    if names.is_empty() {
        let shown: String = page.folder.chars().take(200).collect();
        return Err(Error::new(Code::NotFound, format!("the revision has no folder `{shown}`")));
    }
    let mut rest = names.into_iter().filter(|(name, _)| page.after < *name);
    let mut entries = Vec::new();
    let mut last = "";
    for (path, is_folder) in rest.by_ref().take(PAGE_ENTRIES) {
        last = path;
        entries.push(match found.version.files.iter().find(|file| !is_folder && file.path == path) {
            None => {
                let oid = hex(&Sha1::digest(format!("{}/{path}", found.commit)));
                json!({ "type": "directory", "path": path, "oid": oid, "size": 0 })
            }
            Some(file) => {
                let (oid, lfs) = large_file(api, file).await?;
                json!({ "type": "file", "path": path, "oid": oid, "size": file.size, "lfs": lfs })
            }
        });
    }
    let next = rest.next().and_then(|_| next_page(found, page, last, headers));
    Ok(Listed { entries, next })
}

/// The address of the page after `last`. Clients want it whole, so it is made of the host they asked.
fn next_page(found: &Revision, page: &PageOf<'_>, last: &str, headers: &HeaderMap) -> Option<HeaderValue> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    let folder =
        if page.folder.is_empty() { String::new() } else { format!("/{}", encoded(page.folder, true)) };
    let (model, commit, deep) = (&found.version.model, &found.commit, page.deep);
    let scheme = page.scheme;
    let url = format!("{scheme}://{host}/api/models/{model}/tree/{commit}{folder}?recursive={deep}");
    HeaderValue::from_str(&format!("<{url}&cursor={}>; rel=\"next\"", encoded(last, false))).ok()
}

/// Percent-encoded (RFC 3986, unreserved kept), and slashes if they shall stay.
fn encoded(text: &str, slashes: bool) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            b'/' if slashes => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}
