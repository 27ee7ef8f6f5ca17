//! Commands around sealed bundles: seal, unseal, rekey, lease.

use std::path::PathBuf;

use bms_bundle::seal::{Envelope, Kms, Rekeyed, SealOptions, To};
use bms_bundle::seal::{lease_dir, rekey_dir, seal_to, unseal_to};
use bms_bundle::{Bundle, PublicKey, parse_time, time_text};
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::home::{Home, PolicyOption, now_ms};
use crate::output::Output;
use crate::secrets::RecipientOptions;

/// Options of `bms seal`.
#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// The bundle's folder. It passes the gate, and so the scan, before it is sealed.
    bundle: PathBuf,
    /// Where the sealed bundle goes.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take the place of a bundle that is already there.
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    recipients: RecipientOptions,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Seal {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let policy = self.policy.load(home)?;
        let mut to = self.recipients.load(self.policy.access())?;
        if to.is_empty() {
            to.push(To::Key(home.sealing_key()?.public().clone()));
        }
        let verified = policy.verify(Bundle::open(&self.bundle)?).map_err(Error::from)?;
        let key = home.signing_key()?;
        let options = SealOptions { to: &to, signer: &key, replace: self.replace, now_ms: now_ms() };
        let manifest = seal_to(&verified, &self.out, &options)?;
        let digest = Bundle::open(&self.out)?.digest();
        let seal = manifest.sealed.map(|seal| seal.id);
        let text =
            format!("sealed {} into `{}` for {} recipients", manifest.name, self.out.display(), to.len());
        output.result(
            text,
            &json!({"bundle": self.out, "model": manifest.name, "digest": digest, "seal": seal, "recipients": to.len()}),
        );
        Ok(())
    }
}

/// Options of `bms unseal`.
#[derive(Debug, Args)]
pub(crate) struct Unseal {
    /// The sealed bundle's folder.
    bundle: PathBuf,
    /// Where the plain bundle goes. Whoever can read that folder can read the model.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Unseal {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let policy = self.policy.load(home)?;
        let verified = policy.verify(Bundle::open(&self.bundle)?).map_err(Error::from)?;
        let Some(seal) = verified.seal() else {
            return Err(Error::new(
                Code::InvalidRequest,
                format!("`{}` is not sealed", self.bundle.display()),
            ));
        };
        if verified.lease().is_some() {
            return Err(Error::new(
                Code::PermissionDenied,
                "a leased key loads the bundle and does nothing else",
            ));
        }
        unseal_to(&verified, &self.out)?;
        let text = format!("wrote {} in plain to `{}`", verified.manifest().name, self.out.display());
        output.result(text, &json!({"bundle": self.out, "digest": seal.digest}));
        Ok(())
    }
}

/// Options of `bms rekey`.
#[derive(Debug, Args)]
pub(crate) struct Rekey {
    /// The sealed bundle's folder.
    bundle: PathBuf,
    #[command(flatten)]
    add: RecipientOptions,
    /// One who shall not open it any more, by the name this command prints. Who opened it before may have kept the
    /// key: against that, seal the bundle anew.
    #[arg(long, value_name = "NAME")]
    remove: Vec<String>,
    /// Have a key-management service wrap the key with the newest version of its own.
    #[arg(long, value_name = "URL")]
    rewrap: Vec<String>,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Rekey {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let policy = self.policy.load(home)?;
        let access = self.policy.access();
        let add = self.add.load(access)?;
        let services = self.rewrap.iter().map(|uri| access.vault(uri)).collect::<Result<Vec<_>>>()?;
        let services: Vec<&dyn Kms> = services.iter().map(|service| service as &dyn Kms).collect();
        let change = Rekeyed { add: &add, remove: &self.remove, rewrap: &services };
        let envelope = rekey_dir(&self.bundle, &policy, &change, &home.signing_key()?)?;
        let (text, value) = describe(&envelope);
        output.result(text, &value);
        Ok(())
    }
}

fn describe(envelope: &Envelope) -> (String, Value) {
    let names: Vec<_> = envelope.recipients().iter().map(bms_bundle::seal::Recipient::name).collect();
    let text = format!("sealed for {} (envelope {})", names.join(", "), envelope.revision());
    (text, json!({"revision": envelope.revision(), "recipients": names}))
}

/// Options of `bms lease`.
#[derive(Debug, Args)]
pub(crate) struct Lease {
    #[command(subcommand)]
    action: LeaseAction,
}

#[derive(Debug, Subcommand)]
enum LeaseAction {
    /// Lend a sealed bundle's key to an edge node.
    Issue(Box<Issue>),
    /// Say what a lease says, and whether it holds now.
    Show {
        /// The lease.
        lease: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Issue {
    /// The sealed bundle's folder.
    bundle: PathBuf,
    /// The node's name.
    #[arg(long)]
    node: String,
    /// The node's public key, PEM: `bms key sealing` prints it there.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Days it lasts.
    #[arg(long, value_name = "DAYS", default_value_t = 30.0)]
    days: f64,
    /// When it begins, e.g. 2027-01-31 [default: now].
    #[arg(long, value_name = "DATE")]
    from: Option<String>,
    /// Where the lease goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    policy: PolicyOption,
}

impl Lease {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.action {
            LeaseAction::Issue(issue) => issue.run(home, output),
            LeaseAction::Show { lease } => {
                let read = bms_bundle::seal::Lease::load(&lease)?;
                let terms = read.terms();
                let trusted = home.policy()?.check_lease(&read).err().map(|e| e.message().to_owned());
                let holds = terms.check(now_ms()).err().map(|e| e.message().to_owned());
                let verdict = trusted.as_ref().or(holds.as_ref()).map_or("it holds", String::as_str);
                let (from, to) = (time_text(terms.not_before_ms), time_text(terms.expires_ms));
                let text =
                    format!("{} for the node {}, from {from} until {to}: {verdict}", terms.model, terms.node);
                let holds = trusted.is_none() && holds.is_none();
                output.result(
                    text,
                    &json!({"model": terms.model, "node": terms.node, "seal": terms.seal, "holds": holds,
                        "not_before_ms": terms.not_before_ms, "expires_ms": terms.expires_ms}),
                );
                Ok(())
            }
        }
    }
}

impl Issue {
    fn run(self, home: &Home, output: &Output) -> Result<()> {
        if !(self.days.is_finite() && 0.0 < self.days) {
            return Err(Error::new(Code::InvalidRequest, format!("--days {} is not above zero", self.days)));
        }
        let policy = self.policy.load(home)?;
        let begin = self.from.as_deref().map(parse_time).transpose()?;
        let expires_ms = begin.unwrap_or_else(now_ms).saturating_add((self.days * 86_400_000.0) as i64);
        let node_key = PublicKey::load(&self.to)?;
        let node = (self.node.as_str(), &node_key);
        let lease = lease_dir(&self.bundle, &policy, node, (begin, expires_ms), &home.signing_key()?)?;
        crate::home::write_new(&self.out, &lease)?;
        let text =
            format!("leased to {} until {}: `{}`", self.node, time_text(expires_ms), self.out.display());
        output.result(text, &json!({"lease": self.out, "node": self.node, "expires_ms": expires_ms}));
        Ok(())
    }
}
