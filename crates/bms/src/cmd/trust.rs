//! Commands around the load gate: sign, verify, key.

use std::path::PathBuf;

use bms_bundle::{Finding, PublicKey, TrustedKey, sign_dir};
use bms_wire::Result;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::home::{Home, PolicyOption};
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

/// Options of `bms key`.
#[derive(Debug, Args)]
pub(crate) struct Key {
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Print this home folder's public key in PEM, to be trusted elsewhere.
    Show,
    /// Trust a publisher's key here.
    Trust {
        /// The publisher's public key, a PEM file.
        key: PathBuf,
        /// What to call the publisher.
        #[arg(long)]
        publisher: String,
        /// Models it may publish, e.g. `digits*`; can be given more than once.
        #[arg(long, value_name = "PATTERN", default_value = "*")]
        model: Vec<String>,
    },
    /// List the trusted publishers.
    List,
}

impl Key {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.action {
            KeyAction::Show => {
                let key = home.signing_key()?;
                let pem = key.public_pem();
                output.result(pem.trim_end(), &json!({"key_id": key.key_id(), "public_key": pem}));
            }
            KeyAction::Trust { key, publisher, model } => {
                let mut policy = home.policy()?;
                let key = PublicKey::load(&key)?;
                policy.trust.push(TrustedKey { publisher: publisher.clone(), key, models: model });
                let file = home.policy_file()?;
                policy.save(&file)?;
                output.result(
                    format_args!("`{publisher}` is trusted by {}", file.display()),
                    &json!({"publisher": publisher, "policy": file}),
                );
            }
            KeyAction::List => {
                let policy = home.policy()?;
                let mut table = output::table(&["publisher", "models", "key"]);
                for trusted in &policy.trust {
                    table.add_row([&trusted.publisher, &trusted.models.join(", "), trusted.key.id()]);
                }
                let json = |t: &TrustedKey| json!({"publisher": t.publisher, "models": t.models, "key_id": t.key.id()});
                output.result(table, &policy.trust.iter().map(json).collect::<Vec<_>>());
            }
        }
        Ok(())
    }
}
