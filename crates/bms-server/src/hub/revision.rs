//! What a revision means: which version of a model, and its commit.
//!
//! | revision | the version |
//! |---|---|
//! | an alias | the one it points at |
//! | `3` or `v3` | that one |
//! | `latest` | the newest |
//! | `main` | the alias `main`, else `production`, else `champion`, else the newest |
//! | a stage, such as `Staging` | the newest in it |
//! | 40 hex digits | the one with this commit |
//!
//! A commit's first half is that of the version's digest, its second half says which files: what stands beside the signed
//! files, such as approvals, may change, and then the commit does.

use bms_bundle::Mode;
use bms_wire::api::{Version, VersionKind};
use bms_wire::{Code, Error, Result};

use crate::api::Api;

/// The branch that is meant when none is named.
pub(super) const DEFAULT: &str = "main";
/// What it means, in this order.
const DEFAULT_ALIASES: [&str; 3] = [DEFAULT, "production", "champion"];
/// Hex digits of a commit, as git's.
const COMMIT_CHARS: usize = 40;

/// A version as a revision.
#[derive(Debug)]
pub(super) struct Revision {
    pub(super) version: Version,
    pub(super) commit: String,
}

/// The version a revision means, if it may be handed out.
///
/// # Errors
/// [`Code::ModelNotFound`], [`Code::VersionNotFound`]; [`Code::KeyRevoked`] or [`Code::SignatureMissing`] when the policy
/// would not let it in any more.
pub(super) async fn find(api: &Api, model: &str, revision: &str) -> Result<Revision> {
    let listed = api.registry.model(model).await.map_err(|error| match error.code() {
        // A name that no model can have is one that no model has.
        Code::InvalidRequest => Error::new(Code::ModelNotFound, error.message().to_owned()),
        _ => error,
    })?;
    let none = || {
        let shown: String = revision.chars().take(100).collect();
        Error::new(Code::VersionNotFound, format!("model `{model}` has no revision `{shown}`"))
            .hint("Name an alias, a version such as `v3`, a stage or a commit.")
    };
    if is_commit(revision) {
        for version in listed.versions.iter().filter(|v| v.digest.starts_with(&revision[..COMMIT_CHARS / 2]))
        {
            let found = open(api, model, version.version).await?;
            if found.commit == revision {
                return Ok(found);
            }
        }
        return Err(none());
    }
    let version = named(&listed.versions, revision).ok_or_else(none)?;
    open(api, model, version).await
}

fn is_commit(revision: &str) -> bool {
    revision.len() == COMMIT_CHARS && revision.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
}

/// The number of the version with this name; versions come newest first.
fn named(versions: &[Version], revision: &str) -> Option<u64> {
    let alias =
        |name: &str| versions.iter().find(|version| version.aliases.iter().any(|alias| alias == name));
    let newest = || versions.first();
    let digits = revision.strip_prefix('v').unwrap_or(revision);
    let number = digits.bytes().all(|c| c.is_ascii_digit()).then(|| digits.parse::<u64>().ok()).flatten();
    let found = match (revision, number) {
        (DEFAULT, _) => DEFAULT_ALIASES.iter().find_map(|name| alias(name)).or_else(newest),
        ("latest", _) => newest(),
        (_, Some(number)) => alias(revision).or_else(|| versions.iter().find(|v| v.version == number)),
        _ => alias(revision).or_else(|| {
            let in_stage = |v: &&Version| v.stage != "none" && v.stage.eq_ignore_ascii_case(revision);
            versions.iter().find(in_stage)
        }),
    };
    found.map(|version| version.version)
}

/// A version with its files, after a look at the policy: it was judged when it came in, but its signer may have been revoked
/// since, or unsigned bundles be admitted no longer.
pub(super) async fn open(api: &Api, model: &str, version: u64) -> Result<Revision> {
    let version = api.registry.version(model, version).await?;
    let policy = api.policy.now();
    let name = format!("`{model}` version {}", version.version);
    match api.registry.signer_key(model, version.version).await? {
        Some(key) if policy.revocation(&key).is_some() => {
            let what = format!("{name} is signed by a key that was revoked");
            return Err(Error::new(Code::KeyRevoked, what).hint("Publish it again, signed by another key."));
        }
        None if version.kind == VersionKind::Bundle && policy.mode == Mode::Enforce => {
            return Err(Error::new(
                Code::SignatureMissing,
                format!("{name} was admitted without a signature"),
            )
            .hint("The policy asks for signatures by now; sign the bundle and publish it again."));
        }
        _ => {}
    }
    Ok(Revision { commit: commit(&version), version })
}

fn commit(version: &Version) -> String {
    let mut hasher = blake3::Hasher::new();
    for file in &version.files {
        hasher.update(format!("{}\0{}\0", file.path, file.blake3).as_bytes());
    }
    let files = hasher.finalize().to_hex();
    let half = COMMIT_CHARS / 2;
    let digest: String = version.digest.chars().take(half).collect();
    format!("{digest}{}", &files[..half])
}

#[cfg(test)]
mod tests;
