//! The objects of a store by name, and what can go wrong with them.
//!
//! ```text
//! format                   says that this is a store, and of which format
//! packs/{name}             chunks, and at the end what they are
//! index/{name}             a copy of what several packs say they hold
//! files/{digest}/{name}    recipes
//! leases/{name}.held|beat  who is pushing
//! condemned/{name}         what is about to be removed
//! lock                     who collects garbage
//! clock                    written to learn what time it is where the store lies
//! scrub                    how far the last scrub got
//! ```
//!
//! A `name` is made once and never again: what was removed cannot come back, and nothing is written to twice but the
//! beats, the lock, the clock and the state of a scrub.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::Path as FsPath;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use bms_wire::{Code, Error, Result};
use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::Digest;

/// The name of an object: 128 bits that nobody has had before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) [u8; 16]);

impl Name {
    /// A new one. Its randomness is the system's, which keys every [`RandomState`]; time and a counter make it unique
    /// within this process whatever that gives.
    pub(crate) fn new() -> Name {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let mut seed = blake3::Hasher::new();
        for _ in 0..2 {
            seed.update(&RandomState::new().build_hasher().finish().to_le_bytes());
        }
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        seed.update(&now.as_nanos().to_le_bytes());
        seed.update(&std::process::id().to_le_bytes());
        seed.update(&COUNTER.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let mut name = [0; 16];
        seed.finalize_xof().fill(&mut name);
        Name(name)
    }

    pub(crate) fn parse(text: &str) -> Option<Name> {
        let mut name = [0; 16];
        hex::decode_to_slice(text, &mut name).ok()?;
        Some(Name(name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Name::parse(&text).ok_or_else(|| serde::de::Error::custom("not the name of an object"))
    }
}

/// The object that says what this is.
pub(crate) fn format() -> Path {
    Path::from("format")
}

/// The object that keeps collectors apart.
pub(crate) fn lock() -> Path {
    Path::from("lock")
}

/// Written to learn the time.
pub(crate) fn clock() -> Path {
    Path::from("clock")
}

/// How far a scrub got.
pub(crate) fn scrub() -> Path {
    Path::from("scrub")
}

pub(crate) fn packs() -> Path {
    Path::from("packs")
}

pub(crate) fn pack(name: Name) -> Path {
    Path::from_iter(["packs", &name.to_string()])
}

pub(crate) fn indexes() -> Path {
    Path::from("index")
}

pub(crate) fn index(name: Name) -> Path {
    Path::from_iter(["index", &name.to_string()])
}

pub(crate) fn files() -> Path {
    Path::from("files")
}

/// The recipes of one file.
pub(crate) fn file(digest: Digest) -> Path {
    Path::from_iter(["files", &digest.to_string()])
}

pub(crate) fn recipe(digest: Digest, name: Name) -> Path {
    Path::from_iter(["files", &digest.to_string(), &name.to_string()])
}

pub(crate) fn leases() -> Path {
    Path::from("leases")
}

pub(crate) fn held(name: Name) -> Path {
    Path::from_iter(["leases", &format!("{name}.held")])
}

pub(crate) fn beat(name: Name) -> Path {
    Path::from_iter(["leases", &format!("{name}.beat")])
}

pub(crate) fn condemnations() -> Path {
    Path::from("condemned")
}

pub(crate) fn condemnation(name: Name) -> Path {
    Path::from_iter(["condemned", &name.to_string()])
}

/// The name at the end of a path, when it is one of ours.
pub(crate) fn name_of(path: &Path) -> Option<Name> {
    Name::parse(path.filename()?)
}

/// File and recipe that `files/{digest}/{name}` stands for.
pub(crate) fn recipe_of(path: &Path) -> Option<(Digest, Name)> {
    let digest = path.parts().nth(1)?;
    Some((Digest::parse(digest.as_ref()).ok()?, name_of(path)?))
}

/// Milliseconds since 1970 by the store's clock at which an object was written.
pub(crate) fn written_ms(meta: &ObjectMeta) -> i64 {
    meta.last_modified.timestamp_millis()
}

/// Milliseconds since 1970 by the store's clock.
pub(crate) async fn now_ms(objects: &dyn ObjectStore) -> Result<i64> {
    write(objects, &clock(), Vec::new()).await?;
    let meta = objects.head(&clock()).await.map_err(|e| failure("read the store's clock", e))?;
    Ok(written_ms(&meta))
}

/// Everything below a path, in the order of names.
pub(crate) async fn list(objects: &dyn ObjectStore, below: Path) -> Result<Vec<ObjectMeta>> {
    let listed: Vec<ObjectMeta> =
        objects.list(Some(&below)).try_collect().await.map_err(|e| failure("list the store", e))?;
    let mut listed = listed;
    listed.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(listed)
}

/// A whole small object; `None` when there is none, or none any more.
pub(crate) async fn read(objects: &dyn ObjectStore, path: &Path, limit: u64) -> Result<Option<Bytes>> {
    let got = match objects.get(path).await {
        Ok(got) => got,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(e) => return Err(failure("read the store", e)),
    };
    if limit < got.meta.size {
        let what = format!("`{path}` in the store has {} bytes, more than can be", got.meta.size);
        return Err(Error::new(Code::Tampered, what));
    }
    match got.bytes().await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(e) => Err(failure("read the store", e)),
    }
}

/// Writes a whole small object.
pub(crate) async fn write(objects: &dyn ObjectStore, path: &Path, bytes: Vec<u8>) -> Result<()> {
    objects.put(path, bytes.into()).await.map_err(|e| failure("write to the store", e))?;
    Ok(())
}

/// Removes an object; one that is gone already is fine.
pub(crate) async fn remove(objects: &dyn ObjectStore, path: &Path) -> Result<()> {
    match objects.delete(path).await {
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(e) => Err(failure("remove from the store", e)),
    }
}

/// A store failure as an error. The input/output error below it says whether the disk is full.
pub(crate) fn failure(doing: &str, source: object_store::Error) -> Error {
    let mut code = match &source {
        object_store::Error::NotFound { .. } => Code::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            Code::PermissionDenied
        }
        _ => Code::Io,
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            code = Error::io("", FsPath::new(""), std::io::Error::from(io.kind())).code();
        }
        cause = error.source();
    }
    // A server's refusal is known by its status only, which the library gives as words.
    if code == Code::Io && source.to_string().contains("507") {
        code = Code::StorageFull;
    }
    let error = Error::new(code, format!("failed to {doing}: {source}"));
    let error = match code {
        Code::StorageFull => error.hint("Free space where the store lies; nothing that was stored is lost."),
        _ => error,
    };
    error.because(source)
}

#[cfg(test)]
mod tests;
