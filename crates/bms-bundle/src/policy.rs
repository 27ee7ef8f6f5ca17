//! The trust policy: whose models are admitted, and which formats.

use std::path::Path;

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};
use toml::value::Datetime;

use crate::seal::{Keyring, Lease};
use crate::trust::time;
use crate::{ApprovalRule, Format, PublicKey, Revocation, Right, Severity, TrustedKey, folder};

/// The one schema this program writes and reads.
const SCHEMA: u32 = 1;

/// Formats that hold no code and that something here reads.
const FORMATS: [Format; 8] = [
    Format::Onnx,
    Format::Safetensors,
    Format::Gguf,
    Format::Json,
    Format::Text,
    Format::Svg,
    Format::Png,
    Format::Jpeg,
];

/// Formats that are read by code of others, some of it native, when a policy does not say otherwise.
const CONFINED: [Format; 1] = [Format::Onnx];

/// Whether signatures are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Only bundles signed by a trusted key for this model.
    Enforce,
    /// Unsigned bundles and unknown signers too. What is malicious, tampered with, malformed or
    /// of a denied format is refused all the same, and [`crate::Verified::development`] says that
    /// the bundle came in this way.
    Development,
}

/// What may be loaded.
///
/// As a file:
///
/// ```toml
/// schema = 1
/// mode = "enforce"
/// deny = "medium"
/// formats = ["onnx", "gguf", "safetensors", "json", "text", "svg", "png"]
/// bare_models = false
/// confine = ["onnx"]
///
/// [[trust]]
/// publisher = "Digits team"
/// models = ["digits", "digits-*"]
/// formats = ["onnx", "json"]            # may be left out: all of the above
/// may = ["publish", "approve"]          # may be left out: these two; also "release" and "lease"
/// not_before = 2026-01-01T00:00:00Z     # may be left out
/// not_after = 2027-01-01T00:00:00Z      # may be left out
/// key = """
/// -----BEGIN PUBLIC KEY-----
/// …
/// -----END PUBLIC KEY-----
/// """
///
/// [[approvals]]
/// models = ["prod-*"]
/// required = 2
///
/// [[revoked]]
/// key = "9f2c…"
/// reason = "laptop stolen"
/// at = 2026-05-01T00:00:00Z
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether signatures are asked for.
    pub mode: Mode,
    /// The allow-list.
    pub trust: Vec<TrustedKey>,
    /// Formats that are admitted.
    pub formats: Vec<Format>,
    /// Findings from this severity on refuse a bundle.
    pub deny: Severity,
    /// Whether a model file without a manifest is admitted that the user of this machine names on the command line,
    /// see [`crate::Bundle::of_model`]. It is scanned all the same, and counts as development. A registry and an
    /// edge node take only bundles.
    pub bare_models: bool,
    /// Keys that are not trusted any more.
    pub revoked: Vec<Revocation>,
    /// How many others must approve which models.
    pub approvals: Vec<ApprovalRule>,
    /// What opens sealed bundles. Never part of the file.
    pub keys: Keyring,
    /// Formats of models that slots load only where the machine confines them: without Landlock or seccomp a slot
    /// refuses them. What is not listed is loaded there as well, with the rights of the server.
    pub confine: Vec<Format>,
}

impl Policy {
    /// Admits what nobody signed. For trying things out on one machine.
    pub fn development() -> Policy {
        Policy {
            mode: Mode::Development,
            trust: Vec::new(),
            formats: FORMATS.to_vec(),
            deny: Severity::Medium,
            bare_models: true,
            revoked: Vec::new(),
            approvals: Vec::new(),
            keys: Keyring::default(),
            confine: CONFINED.to_vec(),
        }
    }

    /// Admits only what `key` signed, any model. The key has every right.
    pub fn trusting(key: &PublicKey, publisher: &str) -> Policy {
        let models = vec!["*".to_owned()];
        let trusted =
            TrustedKey { may: Right::ALL.to_vec(), ..TrustedKey::new(publisher, key.clone(), models) };
        Policy { mode: Mode::Enforce, trust: vec![trusted], ..Policy::development() }
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// [`Code::NotFound`], [`Code::Io`], or [`Code::InvalidRequest`] with the line that is wrong.
    pub fn load(path: &Path) -> Result<Policy> {
        // Through `canonicalize`, since settings are commonly mounted as links.
        let real = path.canonicalize().map_err(|e| Error::io("read the policy", path, e))?;
        let bytes = folder::read_file(&real, limits::CONTROL_BODY_BYTES_MAX as u64)?;
        std::str::from_utf8(&bytes)
            .map_err(|e| invalid("the policy is not UTF-8").because(e))
            .and_then(Policy::from_toml)
            .map_err(|e| e.while_doing(format_args!("read the policy `{}`", path.display())))
    }

    /// Reads a policy from TOML.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`].
    pub fn from_toml(text: &str) -> Result<Policy> {
        let document: Document = toml::from_str(text).map_err(|e| invalid(e.to_string()).because(e))?;
        if document.schema != SCHEMA {
            return Err(invalid(format!("schema {} is not supported, only {SCHEMA}", document.schema)));
        }
        let lists = [document.trust.len(), document.revoked.len(), document.approvals.len()];
        if lists.iter().any(|length| limits::TRUST_ENTRIES_MAX < *length) {
            return Err(invalid(format!("over {} keys, revocations or rules", limits::TRUST_ENTRIES_MAX)));
        }
        Ok(Policy {
            mode: document.mode,
            trust: document.trust.into_iter().map(Entry::trusted).collect::<Result<_>>()?,
            formats: document.formats.unwrap_or_else(|| FORMATS.to_vec()),
            deny: document.deny.unwrap_or(Severity::Medium),
            bare_models: document.bare_models.unwrap_or(true),
            revoked: document.revoked.into_iter().map(Revoked::revocation).collect::<Result<_>>()?,
            approvals: document.approvals.into_iter().map(Approvals::rule).collect::<Result<_>>()?,
            keys: Keyring::default(),
            confine: document.confine.unwrap_or_else(|| CONFINED.to_vec()),
        })
    }

    /// The policy as TOML.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be written, which no valid policy does.
    pub fn to_toml(&self) -> Result<String> {
        let document = Document {
            schema: SCHEMA,
            mode: self.mode,
            deny: Some(self.deny),
            formats: Some(self.formats.clone()),
            // Absent means admitted, so that earlier releases read what they know.
            bare_models: (!self.bare_models).then_some(false),
            confine: (self.confine != CONFINED).then(|| self.confine.clone()),
            trust: self.trust.iter().map(Entry::of).collect(),
            approvals: self
                .approvals
                .iter()
                .map(|rule| Approvals { models: rule.models.clone(), required: rule.required })
                .collect(),
            revoked: self.revoked.iter().map(Revoked::of).collect(),
        };
        toml::to_string_pretty(&document)
            .map_err(|e| Error::new(Code::Internal, format!("failed to write a policy: {e}")).because(e))
    }

    /// Writes a policy file, in place of an earlier one.
    ///
    /// # Errors
    /// [`Code::Io`] or [`Code::StorageFull`].
    pub fn save(&self, path: &Path) -> Result<()> {
        use std::io::Write;
        let text = self.to_toml()?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(parent)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|e| e.error).map(drop)
        };
        write().map_err(|e: std::io::Error| Error::io("write the policy", path, e))
    }

    /// Checks that somebody who may lease this model signed the lease.
    ///
    /// # Errors
    /// [`Code::SignerUntrusted`], [`Code::KeyRevoked`] or [`Code::SignatureInvalid`].
    pub fn check_lease(&self, lease: &Lease) -> Result<()> {
        if let Some(revocation) = self.revocation(lease.key_id()) {
            return Err(revocation.refusal());
        }
        let terms = lease.terms();
        let known = || self.trust.iter().filter(|entry| entry.key.id() == lease.key_id());
        if let Some(entry) = known().next() {
            lease.verify(&entry.key)?;
        }
        match known().find(|entry| entry.may(Right::Lease, &terms.model)) {
            Some(entry) => entry.check_time(terms.issued_ms, "the lease is signed"),
            None => {
                let what = format!("the lease of {:?} is signed by a key that may not lease it", terms.model);
                Err(Error::new(Code::SignerUntrusted, what)
                    .hint("Give the centre's key the right `lease`: `bms trust add --may lease`."))
            }
        }
    }

    /// The revocation of the key with this id.
    pub fn revocation(&self, key_id: &str) -> Option<&Revocation> {
        self.revoked.iter().find(|revoked| revoked.key == key_id)
    }

    /// The entry that lets `key` sign the model `name`.
    pub(crate) fn grant(&self, key: &PublicKey, name: &str) -> Option<&TrustedKey> {
        self.trust.iter().find(|entry| entry.key == *key && entry.may(Right::Publish, name))
    }

    /// Formats that are commonly loaded confined, and by this policy are not: that belongs in the audit log.
    pub fn unconfined(&self) -> Vec<Format> {
        CONFINED.into_iter().filter(|format| !self.confine.contains(format)).collect()
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message)
}

/// The file's layout.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    schema: u32,
    mode: Mode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deny: Option<Severity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    formats: Option<Vec<Format>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bare_models: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confine: Option<Vec<Format>>,
    #[serde(default)]
    trust: Vec<Entry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    approvals: Vec<Approvals>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    revoked: Vec<Revoked>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    publisher: String,
    models: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    formats: Option<Vec<Format>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    may: Option<Vec<Right>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<Datetime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_after: Option<Datetime>,
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approvals {
    models: Vec<String>,
    required: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoked {
    key: String,
    reason: String,
    at: Datetime,
}

impl Entry {
    fn of(trusted: &TrustedKey) -> Entry {
        let plain = TrustedKey::new("", trusted.key.clone(), Vec::new());
        Entry {
            publisher: trusted.publisher.clone(),
            models: trusted.models.clone(),
            formats: trusted.formats.clone(),
            may: (trusted.may != plain.may).then(|| trusted.may.clone()),
            not_before: trusted.not_before_ms.map(time::to_toml),
            not_after: trusted.not_after_ms.map(time::to_toml),
            key: trusted.key.pem().to_owned(),
        }
    }

    fn trusted(self) -> Result<TrustedKey> {
        if self.models.is_empty() {
            return Err(invalid(format!("{:?} is trusted for no model", self.publisher)));
        }
        let key = PublicKey::from_pem(&self.key)
            .map_err(|e| e.while_doing(format_args!("read the key of {:?}", self.publisher)))?;
        let plain = TrustedKey::new(self.publisher, key, self.models);
        Ok(TrustedKey {
            formats: self.formats,
            may: self.may.unwrap_or_else(|| plain.may.clone()),
            not_before_ms: self.not_before.as_ref().map(moment).transpose()?,
            not_after_ms: self.not_after.as_ref().map(moment).transpose()?,
            ..plain
        })
    }
}

impl Approvals {
    fn rule(self) -> Result<ApprovalRule> {
        match self.required {
            0 => Err(invalid("a rule on approvals that requires none")),
            required => Ok(ApprovalRule { models: self.models, required }),
        }
    }
}

impl Revoked {
    fn of(revocation: &Revocation) -> Revoked {
        let Revocation { key, reason, at_ms } = revocation.clone();
        Revoked { key, reason, at: time::to_toml(at_ms) }
    }

    fn revocation(self) -> Result<Revocation> {
        let hex = self.key.len() == 64 && self.key.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        match hex {
            true => Ok(Revocation { key: self.key, reason: self.reason, at_ms: moment(&self.at)? }),
            false => Err(invalid(format!("{:?} is not the id of a key: 64 lowercase hex digits", self.key))),
        }
    }
}

fn moment(datetime: &Datetime) -> Result<i64> {
    time::from_toml(datetime).ok_or_else(|| invalid(format!("{datetime} is not a date")))
}
