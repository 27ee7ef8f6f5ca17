//! Where a store lies: a folder, a bucket, or memory.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bms_wire::{Code, Error, Result};
use object_store::ObjectStore;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;

use crate::objects::failure;

/// Another process may be writing right now; what it has not finished is younger than this.
const STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The place of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A folder of this machine.
    Folder(PathBuf),
    /// A bucket of an S3 server, and what all names in it begin with. Endpoint, region and keys are those of the usual
    /// variables of the environment: `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`.
    Bucket {
        /// The bucket; it has to be there.
        bucket: String,
        /// What names begin with; may be empty.
        prefix: String,
    },
    /// Memory of this process, gone with it: for tests.
    Memory,
}

impl Location {
    /// Reads `file:///some/folder`, a plain path, `s3://bucket/prefix`, or `memory:`.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for other kinds of address.
    pub fn parse(text: &str) -> Result<Location> {
        let invalid = |why: &str| {
            Error::new(Code::InvalidRequest, format!("`{text}` is no place for a store: {why}"))
                .hint("Give a folder, file:///folder, or s3://bucket/prefix.")
        };
        if text == "memory:" {
            return Ok(Location::Memory);
        }
        if let Some(rest) = text.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.' || c == '_';
            return match !bucket.is_empty() && bucket.chars().all(fine) {
                true => {
                    let prefix = prefix.trim_matches('/').to_owned();
                    Ok(Location::Bucket { bucket: bucket.to_owned(), prefix })
                }
                false => Err(invalid("it names no bucket")),
            };
        }
        if text.starts_with("file://") {
            let url = url::Url::parse(text).map_err(|e| invalid("the address is malformed").because(e))?;
            return match url.to_file_path() {
                Ok(path) => Ok(Location::Folder(path)),
                Err(()) => Err(invalid("it names no folder")),
            };
        }
        if text.is_empty() || text.contains("://") || text.starts_with("file:") {
            return Err(invalid("that kind of address is not known"));
        }
        Ok(Location::Folder(PathBuf::from(text)))
    }

    /// Opens what is there; a folder is made when absent.
    pub(crate) async fn open(&self) -> Result<Arc<dyn ObjectStore>> {
        match self {
            Location::Memory => Ok(Arc::new(InMemory::new())),
            Location::Folder(path) => {
                let path = path.clone();
                let made = tokio::task::spawn_blocking(move || folder(&path)).await;
                made.map_err(|e| Error::new(Code::Internal, "the store was not opened").because(e))?
            }
            Location::Bucket { bucket, prefix } => {
                let objects = connect(bucket)?;
                Ok(match prefix.as_str() {
                    "" => objects,
                    prefix => Arc::new(PrefixStore::new(objects, prefix)),
                })
            }
        }
    }
}

fn folder(path: &Path) -> Result<Arc<dyn ObjectStore>> {
    fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, e))?;
    sweep(path)?;
    let files = LocalFileSystem::new_with_prefix(path).map_err(|e| failure("open the store", e))?;
    // What was acknowledged is on the disk, file and folder.
    Ok(Arc::new(files.with_fsync(true)))
}

/// Removes staged files (`{name}#{n}`) that nobody has written to for a day. Finished files have no `#` in their names.
fn sweep(root: &Path) -> Result<()> {
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))? {
            let entry = entry.map_err(|e| Error::io("list", &folder, e))?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let staged =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.contains('#'));
            if staged && is_stale(&path) {
                fs::remove_file(&path).map_err(|e| Error::io("remove the stale upload", &path, e))?;
            }
        }
    }
    Ok(())
}

fn is_stale(file: &Path) -> bool {
    let age = fs::metadata(file).and_then(|meta| meta.modified()).map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| STALE_AFTER < age)
}

fn connect(bucket: &str) -> Result<Arc<dyn ObjectStore>> {
    // One provider for the process; another part of it may have chosen one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint).unwrap_or_default();
    // Whoever names an endpoint without TLS means it.
    let builder = match endpoint.starts_with("http://") {
        true => builder.with_allow_http(true),
        false => builder,
    };
    let objects = builder.build().map_err(|e| {
        failure("open the store", e)
            .hint("Set AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    })?;
    Ok(Arc::new(objects))
}

#[cfg(test)]
mod tests;
