//! Signatures in the format of OpenSSF Model Signing 1.x, key method.
//!
//! `model.sig` is a Sigstore bundle (v0.3): a DSSE envelope around an in-toto statement whose
//! predicate lists every file with its SHA-256, signed with ECDSA P-256. Source of the format:
//! <https://github.com/sigstore/model-transparency> and <https://github.com/secure-systems-lab/dsse>.
//!
//! Stricter than the reference verifier: the statement must name every file, and none may be
//! excluded by its `ignore_paths`, since those are the signer's choice.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::bundle::{check_digests, is_beside, tampered};
use crate::seal::ENVELOPE;
use crate::{APPROVALS, Bundle, FileEntry, PublicKey, SIGNATURE, SigningKey, digest, draft, folder, path};

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// What the reference signer leaves out besides the signature itself.
const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// A parsed signature: who claims to have signed what. Nothing is proven until
/// [`Envelope::verify`].
#[derive(Clone, Debug)]
pub struct Envelope {
    hint: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
    /// Path to SHA-256 in lowercase hex.
    resources: BTreeMap<String, String>,
}

impl Envelope {
    /// Parses a signature and checks that it is consistent in itself.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn parse(bytes: &[u8]) -> Result<Envelope> {
        if limits::CONTROL_BODY_BYTES_MAX < bytes.len() {
            return Err(invalid("the signature file is too large"));
        }
        let outer: SigstoreBundle = serde_json::from_slice(bytes)
            .map_err(|e| invalid(format!("the signature file is malformed: {e}")).because(e))?;
        if outer.media_type != MEDIA_TYPE {
            return Err(invalid(format!("the media type {:?} is not {MEDIA_TYPE}", outer.media_type)));
        }
        let envelope = outer.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(invalid(format!(
                "the payload type {:?} is not {PAYLOAD_TYPE}",
                envelope.payload_type
            )));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(invalid(format!("{} signatures, expected one", envelope.signatures.len())));
        };
        let payload = decode("payload", &envelope.payload)?;
        let signature = decode("signature", &signature.sig)?;
        let resources = resources(&payload)?;
        let hint = outer.verification_material.public_key.hint.filter(|hint| !hint.is_empty());
        Ok(Envelope { hint, payload, signature, resources })
    }

    /// The id of the key that is said to have signed, see [`PublicKey::id`].
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Checks that `key` made the signature.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn verify(&self, key: &PublicKey) -> Result<()> {
        if self.hint.as_deref().is_some_and(|hint| hint != key.id()) {
            return Err(invalid("the signature names another key"));
        }
        match self.is_by(key) {
            true => Ok(()),
            false => Err(invalid("the signature does not verify")),
        }
    }

    /// Whether `key` made the signature, whatever key it names.
    pub(crate) fn is_by(&self, key: &PublicKey) -> bool {
        key.verifies(&pre_authentication(PAYLOAD_TYPE, &self.payload), &self.signature)
    }

    /// Compares the signed list with the files, given by their digests, both ways. What stands beside the signed files
    /// is not looked at: the signature, approvals, and the envelope when they are `sealed`.
    ///
    /// # Errors
    /// [`Code::Tampered`] naming the first file that is changed, missing or not signed.
    pub fn check_files<'a>(&self, files: impl Iterator<Item = &'a FileEntry>, sealed: bool) -> Result<()> {
        let mut left: BTreeMap<&str, &str> =
            self.resources.iter().map(|(name, digest)| (name.as_str(), digest.as_str())).collect();
        for file in files.filter(|file| !is_beside(&file.path, sealed)) {
            let path = &file.path;
            let signed = left
                .remove(path.as_str())
                .ok_or_else(|| tampered(format!("{path:?} is not covered by the signature")))?;
            if file.sha256 != signed {
                return Err(tampered(format!("{path:?} does not have the digest that was signed")));
            }
        }
        match left.first_key_value() {
            None => Ok(()),
            Some((path, _)) => Err(tampered(format!("{path:?} was signed but is missing"))),
        }
    }
}

/// Signs a bundle: the bytes of its `model.sig`.
///
/// # Errors
/// [`Code::InvalidBundle`] or [`Code::Tampered`] when the files are not those the manifest lists;
/// [`Code::InvalidRequest`] for a bare model, which lists none.
pub fn sign_bundle(bundle: &Bundle, key: &SigningKey) -> Result<Vec<u8>> {
    if bundle.is_bare() {
        return Err(Error::new(Code::InvalidRequest, "a model without a manifest cannot be signed")
            .hint("Make a bundle of it with `bms package`."));
    }
    let manifest = bundle.manifest_unverified()?;
    let entries = bundle.entries();
    check_digests(&manifest, &entries)?;
    sign(&manifest.name, &entries, manifest.sealed.is_some(), key)
}

/// Signs the bundle in `dir`: writes `model.sig` there, in place of an earlier one.
///
/// # Errors
/// As [`Bundle::open`] and [`sign_bundle`], or [`Code::Io`].
pub fn sign_dir(dir: &Path, key: &SigningKey) -> Result<()> {
    let sign = || {
        let signature = sign_bundle(&Bundle::open(dir)?, key)?;
        let staging = tempfile::Builder::new()
            .prefix(".signature-")
            .tempdir_in(dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")))
            .map_err(|e| Error::io("create a folder beside", dir, e))?;
        let fresh = staging.path().join(SIGNATURE);
        draft::write_synced(&fresh, &signature)?;
        let target = dir.join(SIGNATURE);
        std::fs::rename(&fresh, &target).map_err(|e| Error::io("put in place", &target, e))?;
        draft::sync_dir(dir)
    };
    sign().map_err(|e: Error| e.while_doing(format_args!("sign `{}`", dir.display())))
}

/// Verifies a model folder signed by any OpenSSF Model Signing tool, manifest or not: every file
/// (git's own aside, when the signer left them out) must be signed by `key`.
///
/// # Errors
/// [`Code::SignatureInvalid`] or [`Code::Tampered`]; [`Code::NotFound`] or [`Code::Io`].
pub fn verify_dir(dir: &Path, signature: &Path, key: &PublicKey) -> Result<()> {
    let envelope = Envelope::parse(&folder::read_file(signature, limits::CONTROL_BODY_BYTES_MAX as u64)?)?;
    envelope.verify(key)?;
    let files = folder::read(dir)?;
    let signed = |path: &str| {
        let top = path.split('/').next().unwrap_or(path);
        !GIT_PATHS.contains(&top) || envelope.resources.contains_key(path)
    };
    let files: Vec<_> = files
        .iter()
        .filter(|(path, _)| signed(path))
        .map(|(path, content)| (path.as_str(), content))
        .collect();
    let entries = digest::entries(&files);
    envelope.check_files(entries.iter(), false)
}

/// Signs a list of files, without what stands beside them, under a subject name.
pub(crate) fn sign(subject: &str, files: &[FileEntry], sealed: bool, key: &SigningKey) -> Result<Vec<u8>> {
    let mut resources: Vec<Resource> = files
        .iter()
        .filter(|file| !is_beside(&file.path, sealed))
        .map(|file| Resource {
            name: file.path.clone(),
            digest: file.sha256.clone(),
            algorithm: "sha256".to_owned(),
        })
        .collect();
    resources.sort_by(|a, b| a.name.cmp(&b.name));
    let root = root_digest(&resources)?;
    let mut ignore_paths: Vec<String> = GIT_PATHS.map(str::to_owned).to_vec();
    ignore_paths.extend([SIGNATURE, APPROVALS].map(str::to_owned));
    if sealed {
        ignore_paths.push(ENVELOPE.to_owned());
    }
    let statement = Statement {
        kind: STATEMENT_TYPE.to_owned(),
        subject: vec![Subject { name: subject.to_owned(), digest: SubjectDigest { sha256: root } }],
        predicate_type: PREDICATE_TYPE.to_owned(),
        predicate: Predicate {
            serialization: Serialization {
                method: "files".to_owned(),
                hash_type: "sha256".to_owned(),
                allow_symlinks: false,
                ignore_paths,
            },
            resources,
        },
    };
    let encode =
        |e: serde_json::Error| Error::new(Code::Internal, format!("failed to encode a signature: {e}"));
    let payload = serde_json::to_vec(&statement).map_err(encode)?;
    let sig = key.sign(&pre_authentication(PAYLOAD_TYPE, &payload));
    serde_json::to_vec(&SigstoreBundle {
        media_type: MEDIA_TYPE.to_owned(),
        verification_material: VerificationMaterial {
            public_key: KeyHint { hint: Some(key.key_id().to_owned()) },
            tlog_entries: Vec::new(),
        },
        dsse_envelope: DsseEnvelope {
            payload: STANDARD.encode(&payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: vec![DsseSignature { sig: STANDARD.encode(sig), keyid: String::new() }],
        },
    })
    .map_err(encode)
}

/// What DSSE signs: type and payload with their lengths, so that neither can be mistaken for the other.
pub(crate) fn pre_authentication(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

/// Parses and checks the statement: the files it names with their digests.
fn resources(payload: &[u8]) -> Result<BTreeMap<String, String>> {
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|e| invalid(format!("the signed statement is malformed: {e}")).because(e))?;
    if statement.kind != STATEMENT_TYPE || statement.predicate_type != PREDICATE_TYPE {
        return Err(invalid("the signed statement is not about a model"));
    }
    let serialization = &statement.predicate.serialization;
    if serialization.method != "files" || serialization.hash_type != "sha256" || serialization.allow_symlinks
    {
        return Err(invalid("only signatures over whole files with sha256 and without links are supported"));
    }
    let [subject] = statement.subject.as_slice() else {
        return Err(invalid(format!("{} subjects, expected one", statement.subject.len())));
    };
    let list = &statement.predicate.resources;
    if subject.digest.sha256 != root_digest(list)? {
        return Err(invalid("the subject is not the digest of the signed files"));
    }
    path::check_set(list.iter().map(|resource| resource.name.as_str()))
        .map_err(|e| invalid(format!("a signed file name is invalid: {}", e.message())))?;
    list.iter().map(|resource| Ok((resource.name.clone(), hex::encode(resource.raw()?)))).collect()
}

/// Hex SHA-256 over the raw digests in the list's order.
fn root_digest(resources: &[Resource]) -> Result<String> {
    let mut root = Sha256::new();
    for resource in resources {
        root.update(resource.raw()?);
    }
    Ok(hex::encode(root.finalize()))
}

fn decode(what: &str, text: &str) -> Result<Vec<u8>> {
    STANDARD.decode(text).map_err(|e| invalid(format!("the {what} is not base64: {e}")).because(e))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Code::SignatureInvalid, message).hint("Sign the bundle again, or fetch it from its publisher.")
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SigstoreBundle {
    media_type: String,
    verification_material: VerificationMaterial,
    dsse_envelope: DsseEnvelope,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct VerificationMaterial {
    public_key: KeyHint,
    #[serde(default)]
    tlog_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DsseEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<DsseSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DsseSignature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

#[derive(Serialize, Deserialize)]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    digest: String,
    algorithm: String,
}

impl Resource {
    fn raw(&self) -> Result<[u8; 32]> {
        // The reference verifier ignores a wrong label here, which would let two readers disagree.
        if self.algorithm != "sha256" {
            return Err(invalid(format!(
                "{:?} is digested with {:?}, not sha256",
                self.name, self.algorithm
            )));
        }
        let mut raw = [0; 32];
        hex::decode_to_slice(&self.digest, &mut raw)
            .map_err(|e| invalid(format!("the digest of {:?} is not sha256 in hex", self.name)).because(e))?;
        Ok(raw)
    }
}
