//! A worker's copies of versions: fetched from the centre by digest, what is there already not fetched again.
//!
//! Nothing is vouched for here but that the files are those the centre names; whether they are loaded is for the gate in
//! the slot's process to say, by this machine's own policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bms_store::{Recipe, unframe};
use bms_wire::api::{ChunkList, FileRef, Version};
use bms_wire::{Code, Error, ErrorBody, Result, limits};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::Centres;
use super::protocol::FILES;
use crate::slots::{Back, Broken, Connections, VersionName};

/// Files from this size on are fetched as chunks.
const CHUNKED_FROM: u64 = 1 << 20;
/// How long one answer may take: a file of that size, or some chunks.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Fetches versions.
#[derive(Debug)]
pub(crate) struct Pull {
    centres: Arc<Centres>,
    /// Where copies lie.
    into: PathBuf,
    /// One at a time.
    turn: Mutex<()>,
    /// The folders of the copies.
    copies: std::sync::Mutex<BTreeMap<VersionName, PathBuf>>,
}

impl Pull {
    /// One that fetches from these centres into this folder.
    pub(super) fn new(centres: Arc<Centres>, into: PathBuf) -> Self {
        Pull { centres, into, turn: Mutex::default(), copies: Default::default() }
    }

    /// The folder of a copy of the version, complete and with exactly the files the centre names.
    ///
    /// # Errors
    /// What the centre answers; [`Code::Tampered`] when it sends something else than it named; [`Code::Unavailable`] when
    /// it cannot be reached; [`Code::StorageFull`], [`Code::Io`].
    pub(crate) async fn fetch(self: &Arc<Self>, of: &VersionName) -> Result<PathBuf> {
        let _turn = self.turn.lock().await;
        let version = self.version(of).await?;
        let (pull, handle) = (self.clone(), Handle::current());
        let folder = tokio::task::spawn_blocking(move || pull.copy(&version, &handle))
            .await
            .map_err(|e| Error::new(Code::Internal, "the fetching of a version broke").because(e))??;
        self.copies().insert(of.clone(), folder.clone());
        Ok(folder)
    }

    /// The folder of the copy that was fetched of a version.
    pub(super) fn copy_of(&self, of: &VersionName) -> Option<PathBuf> {
        self.copies().get(of).cloned()
    }

    /// Removes the copy of a version that is not run here any more.
    pub(crate) async fn discard(&self, of: &VersionName) -> Result<()> {
        let known = self.copies().remove(of);
        match known {
            Some(folder) => remove(&folder),
            None => remove(&self.into.join(self.version(of).await?.digest)),
        }
    }

    fn copies(&self) -> std::sync::MutexGuard<'_, BTreeMap<VersionName, PathBuf>> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn version(&self, of: &VersionName) -> Result<Version> {
        let answer =
            self.ask(Method::GET, &format!("/models/{}/versions/{}", of.model, of.version), None).await?;
        let version: Version = serde_json::from_slice(&answer).map_err(|e| {
            Error::new(Code::Tampered, "the centre said something else than a version").because(e)
        })?;
        check(&version, of)?;
        Ok(version)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{FILES}{path}"))
            .header(header::HOST, "centre")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|e| Error::new(Code::Internal, "a request cannot be made").because(e))?;
        answer(&self.centres.now(), request, ANSWER_WITHIN).await
    }

    fn copy(&self, version: &Version, handle: &Handle) -> Result<PathBuf> {
        let (folder, staged) =
            (self.into.join(&version.digest), self.into.join(format!("{}.new", version.digest)));
        if version.files.iter().all(|file| holds(&folder.join(&file.path), file))
            && is_exact(&folder, version)?
        {
            return Ok(folder);
        }
        // What an earlier attempt completed lies in the folder of files, by digest, and is used.
        let files = self.into.join(format!("{}.files", version.digest));
        make(&files)?;
        for file in &version.files {
            self.obtain(&files, file, handle)?;
        }
        remove(&staged)?;
        for file in &version.files {
            let path = staged.join(&file.path);
            make(path.parent().unwrap_or(&staged))?;
            bms_bundle::link_or_copy(&files.join(&file.blake3), &path)?;
        }
        remove(&folder)?;
        fs::rename(&staged, &folder).map_err(|e| Error::io("put in place", &folder, e))?;
        remove(&files)?;
        Ok(folder)
    }

    fn obtain(&self, files: &Path, file: &FileRef, handle: &Handle) -> Result<()> {
        let path = files.join(&file.blake3);
        if holds(&path, file) {
            return Ok(());
        }
        if CHUNKED_FROM <= file.size && self.chunks(&path, file, handle)? {
            return Ok(());
        }
        if (limits::REPLY_BYTES_MAX as u64) < file.size {
            let what = format!("the centre has no chunks of `{}`, which is too large without", file.path);
            return Err(Error::new(Code::TooLarge, what));
        }
        let bytes = handle.block_on(self.ask(Method::GET, &format!("/blobs/{}", file.blake3), None))?;
        if bytes.len() as u64 != file.size || blake3::hash(&bytes).to_hex().as_str() != file.blake3 {
            return Err(other_bytes(file));
        }
        let part = path.with_extension("part");
        let write = || {
            let mut out = fs::File::create(&part)?;
            out.write_all(&bytes)?;
            out.sync_all()?;
            fs::rename(&part, &path)
        };
        write().map_err(|e| Error::io("write", &path, e))
    }

    /// Fetches a large file as chunks, those not again that an earlier attempt got. `false` when the centre knows none.
    fn chunks(&self, path: &Path, file: &FileRef, handle: &Handle) -> Result<bool> {
        let recipe =
            match handle.block_on(self.ask(Method::GET, &format!("/blobs/{}/recipe", file.blake3), None)) {
                Err(error) if error.code() == Code::NotFound => return Ok(false),
                recipe => Recipe::read(&recipe?)?,
            };
        if recipe.digest.to_string() != file.blake3 || recipe.size != file.size {
            return Err(other_bytes(file));
        }
        bms_store::assemble(&recipe, path, &[], |chunks| {
            let list = ChunkList { chunks: chunks.iter().map(|chunk| chunk.id.to_string()).collect() };
            let body = serde_json::to_vec(&list)
                .map_err(|e| Error::new(Code::Internal, "a list of chunks is not written").because(e))?;
            unframe(handle.block_on(self.ask(Method::POST, "/chunks/read", Some(body)))?)
        })?;
        Ok(true)
    }
}

/// The body of the centre's answer when that is no failure.
pub(super) async fn answer(
    centre: &Arc<Connections>,
    request: Request<Full<Bytes>>,
    within: Duration,
) -> Result<Bytes> {
    let unreachable = |why: String| {
        Error::new(Code::Unavailable, format!("the centre cannot be reached: {why}")).hint(
            "Is `bms up --nodes-listen` running at the address in the token, and is that open to this machine? \
             If its log says that a certificate was refused, set this machine's clock, or join with a fresh token.",
        )
    };
    let response = match tokio::time::timeout(within, centre.exchange(request, Back::Own)).await {
        Ok(Ok(response)) => response,
        Ok(Err(Broken::Lost(why))) => return Err(unreachable(why)),
        Ok(Err(Broken::Refused(error))) => return Err(error),
        Ok(Err(Broken::Oversized)) => {
            return Err(Error::new(Code::TooLarge, "the centre's answer has no end"));
        }
        Err(_) => return Err(unreachable(format!("no answer within {} s", within.as_secs()))),
    };
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    let status = response.status();
    Err(match serde_json::from_slice::<ErrorBody>(response.body()) {
        Ok(said) => Error::from(said),
        Err(_) => Error::new(Code::Unavailable, format!("the centre answered with status {status}")),
    })
}

fn other_bytes(file: &FileRef) -> Error {
    Error::new(Code::Tampered, format!("the centre sent other bytes for `{}` than it named", file.path))
}

/// Whether what the centre says of the version can be believed so far.
fn check(version: &Version, of: &VersionName) -> Result<()> {
    let is_digest =
        |text: &str| text.len() == 64 && text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let mut paths = BTreeSet::new();
    let mut bytes = 0u64;
    let mut fits = version.model == of.model && version.version == of.version && is_digest(&version.digest);
    fits &= !version.files.is_empty() && version.files.len() <= limits::BUNDLE_FILES_MAX + 2;
    for file in &version.files {
        bms_bundle::check_path(&file.path)?;
        bytes = bytes.saturating_add(file.size);
        fits &= is_digest(&file.blake3) && paths.insert(&file.path) && bytes <= limits::BUNDLE_BYTES_MAX;
    }
    match fits {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidBundle, format!("what the centre says of {of} does not fit"))),
    }
}

/// Whether the plain file at `path` has the content of `file`.
fn holds(path: &Path, file: &FileRef) -> bool {
    let plain = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == file.size);
    let hash = || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(fs::File::open(path)?)?;
        std::io::Result::Ok(hasher.finalize())
    };
    plain && hash().is_ok_and(|hash| hash.to_hex().as_str() == file.blake3)
}

/// Whether no other files lie in the folder.
fn is_exact(folder: &Path, version: &Version) -> Result<bool> {
    let (mut found, mut left) = (0, vec![folder.to_owned()]);
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).map_err(|e| Error::io("list", &dir, e))? {
            let entry = entry.map_err(|e| Error::io("list", &dir, e))?;
            match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                true => left.push(entry.path()),
                false => found += 1,
            }
        }
    }
    Ok(found == version.files.len())
}

fn make(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).map_err(|e| Error::io("make the folder", dir, e))
}

fn remove(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir, e)),
        _ => Ok(()),
    }
}
