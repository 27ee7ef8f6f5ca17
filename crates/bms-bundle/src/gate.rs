//! The load gate: the one way from [`Bundle`] to [`Verified`].

mod admit;
mod again;
mod sealed;

use std::sync::Arc;

use bms_wire::{Code, Error};

use crate::bundle::{check_digests, is_beside, tampered};
use crate::folder::Files;
use crate::scan::{self, Scanned};
use crate::seal::{LeasedKey, SealInfo};
use crate::signature::Envelope;
use crate::{
    Approval, Bundle, Content, FileEntry, Finding, Format, MANIFEST, Manifest, Mode, Nature, Policy,
    PublicKey, SIGNATURE, Severity, TrustedKey,
};

pub use admit::Admitted;

/// A bundle that passed the policy, with the contents that were checked.
///
/// Only [`Policy::verify`] makes one. Large files are mapped, so whoever loads from it calls
/// [`Verified::recheck`] afterwards: then what was loaded is what was checked.
#[derive(Clone)]
pub struct Verified {
    manifest: Manifest,
    files: Files,
    digest: String,
    signer: Option<Signer>,
    development: bool,
    findings: Vec<Finding>,
    approvals: Vec<Approval>,
    deny: Severity,
    seal: Option<SealInfo>,
    lease: Option<Arc<LeasedKey>>,
}

/// Who signed a verified bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The publisher the allow-list names.
    pub publisher: String,
    /// The key, see [`crate::PublicKey::id`].
    pub key_id: String,
}

/// A bundle that did not pass, and why.
#[derive(Debug)]
pub struct Rejected {
    /// Why, the first reason in the gate's order.
    pub code: Code,
    /// Everything the scan found, whether or not it is the reason.
    pub findings: Vec<Finding>,
    /// The refusal in words.
    pub error: Error,
    /// What the bundle called itself, when its manifest could be read.
    pub model: Option<String>,
    /// The bundle's digest.
    pub digest: String,
}

impl Verified {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The file [`Manifest::model`] names. Shared, not copied.
    pub fn model_bytes(&self) -> Content {
        // The gate checked that the file is there.
        self.files[&self.manifest.model].clone()
    }

    /// What the model is, by the content of its file: of a language model's folder, its weights.
    pub fn model_format(&self) -> Format {
        match self.manifest.is_language_model() && !self.files[&self.manifest.model].starts_with(b"GGUF") {
            true => Format::Safetensors,
            false => scan::identify(&self.files[&self.manifest.model]),
        }
    }

    /// One file. Shared, not copied.
    pub fn file(&self, path: &str) -> Option<Content> {
        self.files.get(path).cloned()
    }

    /// As [`Verified::files`], with contents that can be kept.
    pub fn contents(&self) -> impl Iterator<Item = (&str, &Content)> {
        self.files.iter().map(|(path, content)| (path.as_str(), content))
    }

    /// Gives back the memory of bytes that were taken from a mapped file and will not be read again. Reading them
    /// again is no fault, it fetches them again.
    pub fn release(&self, bytes: &[u8]) {
        for content in self.files.values() {
            if let Some(range) = content.place_of(bytes) {
                content.release(range);
            }
        }
    }

    /// Makes sure that no mapped file was written to since before it was checked. To be called once everything that
    /// will be used has been taken from the contents.
    ///
    /// # Errors
    /// [`Code::Tampered`] naming the first file that was. What was loaded must then be thrown away; loading may be
    /// tried again from the start, since a new name for a file in the file system counts as a change, too.
    pub fn recheck(&self) -> Result<(), Error> {
        match self.files.iter().find(|(_, content)| !content.unchanged()) {
            None => Ok(()),
            Some((path, _)) => Err(Error::new(
                Code::Tampered,
                format!("{path:?} was changed while `{}` was being loaded", self.manifest.name),
            )
            .hint("Let nothing write to a model's files while it is loaded, then try again.")),
        }
    }

    /// Every file with its content, the manifest and the signature included, sorted by path.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, bytes)| (path.as_str(), &**bytes))
    }

    /// The version's identity, see [`Bundle::digest`].
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Who signed, when a key on the allow-list did.
    pub fn signer(&self) -> Option<&Signer> {
        self.signer.as_ref()
    }

    /// Whether only [`Mode::Development`] let it in; that belongs in the audit log.
    pub fn development(&self) -> bool {
        self.development
    }

    /// Who else approved it.
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    /// From which severity on findings would have refused it.
    pub(crate) fn deny(&self) -> Severity {
        self.deny
    }

    /// The seal it came under, when it was sealed: its files then lie decrypted in memory.
    pub fn seal(&self) -> Option<&SealInfo> {
        self.seal.as_ref()
    }

    /// The lease whose key opened it: whoever runs the model looks at it now and then, and stops when it is over.
    pub fn lease(&self) -> Option<&Arc<LeasedKey>> {
        self.lease.as_ref()
    }

    /// What the scan found that was not bad enough to refuse.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Bytes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }
}

impl std::fmt::Debug for Verified {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verified")
            .field("name", &self.manifest.name)
            .field("digest", &self.digest)
            .field("signer", &self.signer)
            .field("development", &self.development)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.error)
    }
}

impl std::error::Error for Rejected {}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Error {
        rejected.error
    }
}

/// What the signature proves, before it is known whether that is enough.
enum Proof {
    /// There is no signature.
    Missing,
    /// It is malformed, or claims a trusted key that did not make it.
    Invalid(Error),
    /// No trusted key made it.
    Unknown(Envelope),
    /// A key on the allow-list made it.
    By(Envelope, Box<PublicKey>),
}

impl Policy {
    /// Admits or refuses a bundle. Checks in this order, and reports the first that fails:
    ///
    /// 1. the scan: [`Code::MaliciousContent`]
    /// 2. the digests in signature and manifest: [`Code::Tampered`]
    /// 3. manifest and model can be read: [`Code::InvalidBundle`]
    /// 4. the signature: [`Code::SignatureMissing`], [`Code::SignatureInvalid`]
    /// 5. the allow-list: [`Code::SignerUntrusted`], [`Code::KeyRevoked`]
    /// 6. the formats: [`Code::FormatDenied`]
    /// 7. approvals: [`Code::ApprovalMissing`]
    ///
    /// A sealed bundle is checked so from the outside as far as that goes, then decrypted into memory with the policy's
    /// keys ([`Code::KeyMissing`], [`Code::LeaseExpired`]), and what comes out is checked once more as any bundle.
    ///
    /// # Errors
    /// [`Rejected`] with the code, the words and everything that was found.
    pub fn verify(&self, bundle: Bundle) -> Result<Verified, Rejected> {
        match bundle.seal_unverified() {
            Some(_) => self.verify_sealed(&bundle),
            None => self.verify_plain(bundle, &[]),
        }
    }

    /// A bundle whose files lie in plain; `approved` counts besides the approvals it brings.
    fn verify_plain(&self, bundle: Bundle, approved: &[Approval]) -> Result<Verified, Rejected> {
        let (scanned, entries) = examine(&bundle);
        let digest = bundle.digest();
        match self.check(&bundle, &scanned, &entries, approved) {
            Ok((manifest, signer, approvals)) => {
                let development = signer.is_none();
                let findings = scanned.into_iter().flat_map(|file| file.findings).collect();
                let files = bundle.into_files();
                let deny = self.deny;
                let (seal, lease) = (None, None);
                Ok(Verified {
                    manifest,
                    files,
                    digest,
                    signer,
                    development,
                    findings,
                    approvals,
                    deny,
                    seal,
                    lease,
                })
            }
            Err(error) => Err(Rejected {
                code: error.code(),
                findings: scanned.into_iter().flat_map(|file| file.findings).collect(),
                model: bundle.manifest_unverified().ok().map(|manifest| manifest.name),
                error,
                digest,
            }),
        }
    }

    /// The checks in their order. No signer means that only development mode let it pass.
    fn check(
        &self,
        bundle: &Bundle,
        scanned: &[Scanned],
        entries: &[FileEntry],
        approved: &[Approval],
    ) -> Result<(Manifest, Option<Signer>, Vec<Approval>), Error> {
        self.refuse_findings(scanned, Nature::Attack)?;
        let proof = self.prove(bundle);
        if let Proof::Unknown(envelope) | Proof::By(envelope, _) = &proof {
            envelope.check_files(entries.iter(), false)?;
        }
        let manifest = bundle.manifest_unverified()?;
        // Of a bare model nobody has said what the digests should be.
        if !bundle.is_bare() {
            check_digests(&manifest, entries)?;
        }
        self.refuse_findings(scanned, Nature::Malformed)?;
        check_model(&manifest, scanned)?;
        let signer = match bundle.is_bare() {
            true => self.admit_bare()?,
            false => self.check_signer(proof, &manifest)?,
        };
        self.check_formats(scanned, signer.as_ref())?;
        if bundle.is_bare() {
            return Ok((manifest, signer, Vec::new()));
        }
        let mut approvals = self.approvals(bundle, &manifest, entries, signer.as_ref())?;
        for approval in approved {
            if !approvals.iter().any(|known| known.publisher == approval.publisher) {
                approvals.push(approval.clone());
            }
        }
        self.check_approvals(&manifest.name, &approvals)?;
        Ok((manifest, signer, approvals))
    }

    /// Refuses when a finding of this nature is as severe as the policy denies.
    fn refuse_findings(&self, scanned: &[Scanned], nature: Nature) -> Result<(), Error> {
        let worst = scanned
            .iter()
            .flat_map(|file| &file.findings)
            .filter(|finding| finding.nature == nature && self.deny <= finding.severity)
            .max_by_key(|finding| finding.severity);
        match (worst, nature) {
            (None, _) => Ok(()),
            (Some(finding), Nature::Attack) => Err(Error::new(Code::MaliciousContent, finding.to_string())
                .hint("Do not load this model anywhere; tell whoever published it.")),
            (Some(finding), Nature::Malformed) => Err(Error::new(Code::InvalidBundle, finding.to_string())
                .hint("The file is damaged or incomplete; export or copy it again.")),
        }
    }

    /// Finds out what the signature proves.
    fn prove(&self, bundle: &Bundle) -> Proof {
        let Some(bytes) = bundle.signature_bytes() else { return Proof::Missing };
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(error) => return Proof::Invalid(error),
        };
        // By trial and not by the hint alone: a good signature with an altered hint is invalid,
        // not merely unknown.
        let hinted = self.trust.iter().find(|entry| envelope.hint() == Some(entry.key.id()));
        let signer = self.trust.iter().find(|entry| envelope.is_by(&entry.key));
        match hinted.or(signer).map(|entry| (envelope.verify(&entry.key), &entry.key)) {
            None => Proof::Unknown(envelope),
            Some((Err(error), _)) => Proof::Invalid(error),
            Some((Ok(()), key)) => Proof::By(envelope, Box::new(key.clone())),
        }
    }

    /// Whether a model may be loaded that has no manifest, hence no signature. Never a signer.
    fn admit_bare(&self) -> Result<Option<Signer>, Error> {
        match self.bare_models || self.mode == Mode::Development {
            true => Ok(None),
            false => Err(Error::new(
                Code::SignatureMissing,
                "the policy does not admit a model without a manifest",
            )
            .hint("Make a signed bundle of it with `bms package`.")),
        }
    }

    fn check_signer(&self, proof: Proof, manifest: &Manifest) -> Result<Option<Signer>, Error> {
        // A revoked key's signature is worth less than none: no mode admits it.
        let named = match &proof {
            Proof::By(_, key) => Some(key.id()),
            Proof::Unknown(envelope) => envelope.hint(),
            Proof::Missing | Proof::Invalid(_) => None,
        };
        if let Some(revocation) = named.and_then(|key| self.revocation(key)) {
            return Err(revocation.refusal());
        }
        let refused = match proof {
            Proof::Invalid(error) => return Err(error),
            Proof::Missing => Error::new(Code::SignatureMissing, format!("there is no `{SIGNATURE}`"))
                .hint("Sign it with `bms sign`, or use a development policy to try it out."),
            Proof::Unknown(envelope) => {
                let key = envelope.hint().unwrap_or("(not named)");
                Error::new(
                    Code::SignerUntrusted,
                    format!("the signer's key {key:?} is not on the allow-list"),
                )
                .hint("Add the publisher's public key to the policy, if you trust it.")
            }
            Proof::By(_, key) => match self.grant(&key, &manifest.name) {
                Some(entry) => {
                    entry.check_made(manifest)?;
                    let signer = Signer { publisher: entry.publisher.clone(), key_id: key.id().to_owned() };
                    return Ok(Some(signer));
                }
                None => {
                    let what =
                        format!("the signer's key {} is not trusted for {:?}", key.id(), manifest.name);
                    Error::new(Code::SignerUntrusted, what)
                        .hint("Add the model's name to the key in the policy.")
                }
            },
        };
        match self.mode {
            Mode::Enforce => Err(refused),
            Mode::Development => Ok(None),
        }
    }

    fn check_formats(&self, scanned: &[Scanned], signer: Option<&Signer>) -> Result<(), Error> {
        // They were parsed strictly; whether a policy admits other JSON does not concern them.
        let own = |path: &str| path == MANIFEST || is_beside(path, false);
        let files = || scanned.iter().filter(|file| !own(&file.path));
        let entry = signer.and_then(|signer| {
            self.trust.iter().find(|entry: &&TrustedKey| {
                entry.key.id() == signer.key_id && entry.publisher == signer.publisher
            })
        });
        if let (Some(signer), Some(formats)) = (signer, entry.and_then(|entry| entry.formats.as_ref()))
            && let Some(file) = files().find(|file| !formats.contains(&file.format))
        {
            let what =
                format!("{:?} may not publish {:?}, which is {}", signer.publisher, file.path, file.format);
            return Err(Error::new(Code::FormatDenied, what)
                .hint("Add the format to the publisher's key in the policy, or convert the model."));
        }
        match files().find(|file| !self.formats.contains(&file.format)) {
            None => Ok(()),
            Some(file) => Err(Error::new(
                Code::FormatDenied,
                format!("the policy does not admit {:?}, which is {}", file.path, file.format),
            )
            .hint("Convert the model to ONNX, or remove the file from the bundle.")),
        }
    }
}

/// Scans and digests every file, at the same time: both read gigabytes. The files of a bare model have no digests
/// that could be compared.
fn examine(bundle: &Bundle) -> (Vec<Scanned>, Vec<FileEntry>) {
    let scan = || bundle.files().map(|(path, bytes)| scan::scan_file(path, bytes)).collect();
    if bundle.is_bare() {
        return (scan(), Vec::new());
    }
    std::thread::scope(|scope| {
        let digests = scope.spawn(|| bundle.entries());
        let scanned = scan();
        let entries = digests.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (scanned, entries)
    })
}

/// The manifest's model must at least look like one: a truncated or empty file is told from one
/// of another format. A language model is a GGUF file, or settings with weights beside them.
fn check_model(manifest: &Manifest, scanned: &[Scanned]) -> Result<(), Error> {
    let Some(file) = scanned.iter().find(|file| file.path == manifest.model) else {
        return Err(tampered(format!("the model file {:?} is missing", manifest.model)));
    };
    let good = match manifest.is_language_model() {
        true if file.format == Format::Json => scanned.iter().any(|file| file.format == Format::Safetensors),
        true => file.format == Format::Gguf,
        false => !matches!(file.format, Format::Unknown | Format::Empty),
    };
    match good {
        true => Ok(()),
        false => Err(Error::new(
            Code::InvalidBundle,
            format!("the model file {:?} is not a model for the task {:?}", manifest.model, manifest.task),
        )
        .hint("The file is damaged or incomplete; export or copy it again.")),
    }
}
