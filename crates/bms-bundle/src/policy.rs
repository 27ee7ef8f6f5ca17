//! The trust policy: whose models are admitted, and which formats.

use std::path::Path;

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use crate::{Format, PublicKey, Severity, folder, glob};

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

/// A key on the allow-list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// Who holds it.
    pub publisher: String,
    /// The key.
    pub key: PublicKey,
    /// Names of the models it may sign; `*` stands for any run of characters.
    pub models: Vec<String>,
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
/// key = """
/// -----BEGIN PUBLIC KEY-----
/// …
/// -----END PUBLIC KEY-----
/// """
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
            confine: CONFINED.to_vec(),
        }
    }

    /// Admits only what `key` signed, any model.
    pub fn trusting(key: &PublicKey, publisher: &str) -> Policy {
        let models = vec!["*".to_owned()];
        let trusted = TrustedKey { publisher: publisher.to_owned(), key: key.clone(), models };
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
        let trust = document
            .trust
            .into_iter()
            .map(|entry| {
                if entry.models.is_empty() {
                    return Err(invalid(format!("{:?} is trusted for no model", entry.publisher)));
                }
                let key = PublicKey::from_pem(&entry.key)
                    .map_err(|e| e.while_doing(format_args!("read the key of {:?}", entry.publisher)))?;
                Ok(TrustedKey { publisher: entry.publisher, key, models: entry.models })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Policy {
            mode: document.mode,
            trust,
            formats: document.formats.unwrap_or_else(|| FORMATS.to_vec()),
            deny: document.deny.unwrap_or(Severity::Medium),
            bare_models: document.bare_models.unwrap_or(true),
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

    /// Formats that are commonly loaded confined, and by this policy are not: that belongs in the audit log.
    pub fn unconfined(&self) -> Vec<Format> {
        CONFINED.into_iter().filter(|format| !self.confine.contains(format)).collect()
    }

    /// Whether `key` may sign the model `name`, and as whom.
    pub(crate) fn publisher(&self, key: &PublicKey, name: &str) -> Option<&str> {
        self.trust
            .iter()
            .find(|entry| entry.key == *key && entry.models.iter().any(|model| glob::matches(model, name)))
            .map(|entry| entry.publisher.as_str())
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
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    publisher: String,
    models: Vec<String>,
    key: String,
}

impl Entry {
    fn of(trusted: &TrustedKey) -> Entry {
        Entry {
            publisher: trusted.publisher.clone(),
            models: trusted.models.clone(),
            key: trusted.key.pem().to_owned(),
        }
    }
}
