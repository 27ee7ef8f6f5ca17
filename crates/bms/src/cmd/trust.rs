//! Commands around the load gate: sign, approve, verify, key, trust.

use std::path::PathBuf;

use bms_bundle::{
    Bundle, Finding, Format, PublicKey, Revocation, Right, Rotation, TrustedKey, approve_dir, parse_time,
    sign_dir, time_text,
};
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::home::{Home, PolicyOption, now_ms};
use crate::model;
use crate::output::{self, Output};

/// Options of `bms sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The bundle's folder.
    bundle: PathBuf,
}

impl Sign {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let key = home.signing_key()?;
        sign_dir(&self.bundle, &key)?;
        let (path, key_id) = (self.bundle.display(), key.key_id());
        output.result(
            format_args!("signed `{path}` with key {}…", &key_id[..16]),
            &json!({"bundle": self.bundle, "key_id": key_id}),
        );
        Ok(())
    }
}

/// Options of `bms verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The bundle's folder, or a language model that is no bundle: a GGUF file or a Hugging Face folder.
    bundle: PathBuf,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Verify {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let policy = self.policy.load(home)?;
        let verified = policy.verify(model::open(&self.bundle, None)?).map_err(|rejected| {
            for finding in &rejected.findings {
                output.event("finding", describe(finding), json!({"finding": finding}));
            }
            rejected.error
        })?;
        let signer = verified.signer().map(|s| s.publisher.clone());
        let text = format!(
            "`{}` may be loaded: {} {}, signed by {}",
            self.bundle.display(),
            verified.manifest().name,
            &verified.digest()[..12],
            signer.as_deref().unwrap_or("nobody"),
        );
        output.result(text, &json!({"verified": true, "digest": verified.digest(), "signer": signer}));
        Ok(())
    }
}

pub(crate) fn describe(finding: &Finding) -> String {
    format!("{:?} {}: {} ({})", finding.severity, finding.rule, finding.message, finding.location)
}

/// Options of `bms approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The bundle's folder.
    bundle: PathBuf,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Approve {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let mut policy = self.policy.load(home)?;
        // Everything but the number of approvals, which this one is to raise.
        policy.approvals.clear();
        let bundle = Bundle::open(&self.bundle)?;
        let admitted = policy.admit(&bundle).map_err(Error::from)?;
        let key = home.signing_key()?;
        approve_dir(&self.bundle, &key)?;
        let (name, key_id) = (&admitted.manifest.name, key.key_id());
        if !admitted.opened {
            output.warning("the bundle is sealed and no key here opens it: it was approved unseen");
        }
        output.result(
            format_args!("approved {name} {} with key {}…", &admitted.digest[..12], &key_id[..16]),
            &json!({"bundle": self.bundle, "digest": admitted.digest, "key_id": key_id, "seen": admitted.opened}),
        );
        Ok(())
    }
}

/// Options of `bms trust`.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(subcommand)]
    action: TrustAction,
}

#[derive(Debug, Subcommand)]
enum TrustAction {
    /// Trust a publisher's key.
    Add(Box<Add>),
    /// List the trusted keys and the revoked ones.
    List,
    /// Hand over to a new signing key: the old one signs the new one.
    Rotate(Rotate),
    /// Trust a key no more, whatever it signed and whenever.
    Revoke(Revoke),
}

#[derive(Debug, Args)]
struct Add {
    /// The publisher's public key, a PEM file.
    key: PathBuf,
    /// What to call the publisher.
    #[arg(long)]
    publisher: String,
    /// Models it may publish, e.g. `digits*`; can be given more than once.
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    model: Vec<String>,
    /// Formats it may publish, e.g. `onnx` [default: all the policy admits].
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    format: Vec<Format>,
    /// What it may do: publish, approve, release, lease [default: publish and approve].
    #[arg(long, value_name = "RIGHT", value_parser = right)]
    may: Vec<Right>,
    /// From when on it is trusted, e.g. 2027-01-31.
    #[arg(long, value_name = "DATE")]
    not_before: Option<String>,
    /// Until when it is trusted.
    #[arg(long, value_name = "DATE")]
    not_after: Option<String>,
}

#[derive(Debug, Args)]
struct Rotate {
    /// A publisher's statement about its new key [default: make a new signing key for this home folder].
    #[arg(long, value_name = "FILE")]
    statement: Option<PathBuf>,
    /// Where the statement about this home folder's new key goes, for others to take over.
    #[arg(long, value_name = "FILE", conflicts_with = "statement")]
    out: Option<PathBuf>,
    /// Days the old key is trusted beside the new one.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    overlap_days: u32,
}

#[derive(Debug, Args)]
struct Revoke {
    /// The key's id, or the beginning of one on the allow-list.
    key: String,
    /// Why.
    #[arg(long)]
    reason: String,
}

fn format(name: &str) -> std::result::Result<Format, String> {
    serde_json::from_value(json!(name)).map_err(|_| "this is not the name of a format".to_owned())
}

fn right(name: &str) -> std::result::Result<Right, String> {
    serde_json::from_value(json!(name)).map_err(|_| "expected publish, approve, release or lease".to_owned())
}

impl Trust {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.action {
            TrustAction::Add(add) => add.run(home, output),
            TrustAction::List => list(home, output),
            TrustAction::Rotate(rotate) => rotate.run(home, output),
            TrustAction::Revoke(revoke) => revoke.run(home, output),
        }
    }
}

impl Add {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        let mut policy = home.policy()?;
        let key = PublicKey::load(&self.key)?;
        if let Some(revocation) = policy.revocation(key.id()) {
            let what = format!("the key {} was revoked: {}", key.id(), revocation.reason);
            return Err(Error::new(Code::KeyRevoked, what));
        }
        let plain = TrustedKey::new(self.publisher.clone(), key, self.model);
        let trusted = TrustedKey {
            formats: (!self.format.is_empty()).then_some(self.format),
            may: if self.may.is_empty() { plain.may.clone() } else { self.may },
            not_before_ms: self.not_before.as_deref().map(parse_time).transpose()?,
            not_after_ms: self.not_after.as_deref().map(parse_time).transpose()?,
            ..plain
        };
        let key_id = trusted.key.id().to_owned();
        // The same key under the same name again replaces what it was trusted for.
        policy.trust.retain(|entry| entry.key != trusted.key || entry.publisher != trusted.publisher);
        policy.trust.push(trusted);
        let file = home.policy_file()?;
        policy.save(&file)?;
        let publisher = self.publisher;
        output.result(
            format_args!("`{publisher}` is trusted by {}", file.display()),
            &json!({"publisher": publisher, "key_id": key_id, "policy": file}),
        );
        Ok(())
    }
}

fn list(home: &Home, output: &Output) -> Result<()> {
    let policy = home.policy()?;
    let mut table = output::table(&["publisher", "may", "models", "formats", "from", "until", "key"]);
    let time = |at: Option<i64>| at.map(time_text).unwrap_or_default();
    let names = |list: &[Right]| {
        list.iter().map(|right| json!(right).as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    for trusted in &policy.trust {
        let formats = trusted.formats.as_ref();
        let formats = formats.map(|list| {
            list.iter()
                .map(|format| json!(format).as_str().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
                .join(", ")
        });
        table.add_row([
            trusted.publisher.clone(),
            names(&trusted.may).join(", "),
            trusted.models.join(", "),
            formats.unwrap_or_default(),
            time(trusted.not_before_ms),
            time(trusted.not_after_ms),
            trusted.key.id().to_owned(),
        ]);
    }
    for revoked in &policy.revoked {
        let when = time_text(revoked.at_ms);
        let row = ["(revoked)", revoked.reason.as_str(), "", "", "", when.as_str(), revoked.key.as_str()];
        table.add_row(row);
    }
    let trusted = policy.trust.iter().map(|t| {
        json!({"publisher": t.publisher, "may": t.may, "models": t.models, "formats": t.formats,
            "not_before_ms": t.not_before_ms, "not_after_ms": t.not_after_ms, "key_id": t.key.id()})
    });
    let revoked =
        policy.revoked.iter().map(|r| json!({"key_id": r.key, "reason": r.reason, "at_ms": r.at_ms}));
    output.result(
        table,
        &json!({"trusted": trusted.collect::<Vec<_>>(), "revoked": revoked.collect::<Vec<_>>()}),
    );
    Ok(())
}

impl Rotate {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        let mut policy = home.policy()?;
        let statement = match &self.statement {
            Some(path) => std::fs::read(path).map_err(|e| Error::io("read", path, e))?,
            None => {
                let (old, new) = home.replace_signing_key()?;
                let statement = Rotation::write(&old, new.public())?;
                if let Some(out) = &self.out {
                    crate::home::write_new(out, &statement)?;
                }
                statement
            }
        };
        let overlap = i64::from(self.overlap_days) * 86_400_000;
        let added = policy.rotate(&Rotation::parse(&statement)?, overlap, now_ms())?;
        policy.save(&home.policy_file()?)?;
        let (publisher, key) = (&added[0].publisher, added[0].key.id());
        output.result(
            format_args!(
                "`{publisher}` signs with key {}… from now on; the old key is trusted for {} more days",
                &key[..16],
                self.overlap_days
            ),
            &json!({"publisher": publisher, "key_id": key, "overlap_days": self.overlap_days}),
        );
        Ok(())
    }
}

impl Revoke {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        let mut policy = home.policy()?;
        let mut known: Vec<String> = policy.trust.iter().map(|entry| entry.key.id().to_owned()).collect();
        known.retain(|id| id.starts_with(&self.key));
        known.sort();
        known.dedup();
        let key = match (known.as_slice(), self.key.len()) {
            ([one], _) if 8 <= self.key.len() => one.clone(),
            // One that is not on the list may be revoked as well, before anybody adds it.
            ([], 64) if self.key.bytes().all(|c| c.is_ascii_hexdigit()) => self.key.to_lowercase(),
            _ => {
                return Err(Error::new(Code::NotFound, format!("{:?} is not the id of one key", self.key))
                    .hint("`bms trust list` shows the ids; at least eight digits are needed."));
            }
        };
        if policy.revocation(&key).is_some() {
            return Err(Error::new(Code::Conflict, format!("the key {key} was revoked already")));
        }
        policy.revoked.push(Revocation { key: key.clone(), reason: self.reason.clone(), at_ms: now_ms() });
        let file = home.policy_file()?;
        policy.save(&file)?;
        output.result(
            format_args!("key {}… is revoked in {}", &key[..16], file.display()),
            &json!({"key_id": key, "reason": self.reason, "policy": file}),
        );
        Ok(())
    }
}
