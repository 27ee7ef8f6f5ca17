//! The keys a server starts with: those that its operator brings in a folder, or one that it makes for an admin and shows.

use std::path::{Path, PathBuf};

use bms_registry::{GivenKey, GivenOutcome, MonitorKey, Registry};
use bms_server::KeySettings;
use bms_wire::api::Role;
use bms_wire::{Code, Error, Result, limits};
use serde_json::json;
use tokio::net::TcpListener;

use crate::api_key::secret_in;
use crate::output::Output;

/// Who brings keys, in the audit log.
const BY: &str = "keys-from";

/// What stands where a role does in the name of a file whose key is no caller's: it reads the metrics.
const MONITOR: &str = "monitor";

/// Keys in a folder.
#[derive(Debug)]
pub(crate) struct Given {
    folder: PathBuf,
    keys: Vec<GivenKey>,
    /// Those that read the metrics. They are in no registry.
    pub(crate) monitors: Vec<MonitorKey>,
}

impl Given {
    /// Reads each file as one key, the file's name being NAME.ROLE. Names that begin with a dot are passed over: Kubernetes keeps such beside
    /// the files of a Secret.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for a file that is no key, or has no such name; [`Code::TooLarge`] when there are too many; what the
    /// system says.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let cannot = |e| Error::io("read the folder of keys", folder, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if names.len() as u64 == limits::API_KEYS_MAX {
                let what = format!("`{}` has more than {} files", folder.display(), limits::API_KEYS_MAX);
                return Err(Error::new(Code::TooLarge, what));
            }
            names.push(name);
        }
        names.sort_unstable();
        let mut given = Given { folder: folder.to_owned(), keys: Vec::new(), monitors: Vec::new() };
        for name in names {
            given.take(&folder.join(name))?;
        }
        Ok(given)
    }

    /// Adds the key of a file.
    fn take(&mut self, path: &Path) -> Result<()> {
        let unnamed = || {
            let roles = Role::ALL.map(Role::as_str).join(", ");
            Error::new(Code::InvalidRequest, format!("`{}` is not called NAME.ROLE", path.display()))
                .hint(format!("Roles are {roles} and {MONITOR}."))
        };
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let (name, role) = file.rsplit_once('.').ok_or_else(unnamed)?;
        let secret = secret_in(path)?;
        let reading = |e: Error| e.while_doing(format_args!("read the key in `{}`", path.display()));
        if role == MONITOR {
            self.monitors.push(MonitorKey::new(&secret).map_err(reading)?);
        } else {
            let role = Role::parse(role).ok_or_else(unnamed)?;
            self.keys.push(GivenKey::new(name, role, &secret).map_err(reading)?);
        }
        Ok(())
    }

    /// Has the keys exist, and says what changed.
    async fn give(&self, registry: &Registry, output: &Output) -> Result<()> {
        let outcomes = registry.give_keys(&self.keys, BY).await?;
        for (key, outcome) in self.keys.iter().zip(outcomes) {
            let (code, what) = match outcome {
                GivenOutcome::Known => continue,
                GivenOutcome::Made => ("made", "was made"),
                GivenOutcome::Replaced => ("replaced", "has another secret now; the one before is revoked"),
                GivenOutcome::Ended => ("ended", "was revoked or has expired; it needs another secret"),
            };
            let text = format!("the key `{}` of `{}` {what}", key.name(), self.folder.display());
            output.event("given_key", text, json!({ "name": key.name(), "outcome": code }));
        }
        if registry.has_admin_key().await? {
            return Ok(());
        }
        let what = format!("no admin has a key that counts, nor is one in `{}`", self.folder.display());
        let hint = "Put one there, in a file NAME.admin.";
        if registry.stored_keys().await?.1.is_empty() {
            return Err(Error::new(Code::Conflict, what).hint(hint));
        }
        // Those who have keys are served all the same.
        output.event("no_admin", format!("{what}. {hint}"), json!({ "hint": hint }));
        Ok(())
    }
}

/// Sees to the keys before the first request: makes those that were given, else one for an admin where one is needed, which is
/// shown this once.
pub(crate) async fn settle(
    registry: &Registry,
    settings: &KeySettings,
    given: Option<&Given>,
    listener: &TcpListener,
    output: &Output,
) -> Result<()> {
    if let Some(given) = given {
        return given.give(registry, output).await;
    }
    let address = listener.local_addr().map_err(|e| Error::new(Code::Io, format!("nothing listens: {e}")))?;
    if let Some(made) = bms_server::first_key(registry, settings, address).await? {
        let text = format!("the key of `{}`, which is shown this once: {}", made.key.name, made.secret);
        output.event("key", text, json!({ "name": made.key.name, "secret": made.secret }));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
