//! The load gate: the one way from [`Bundle`] to [`Verified`].

use bms_wire::{Code, Error};

use crate::bundle::{check_digests, tampered};
use crate::folder::Files;
use crate::scan::{self, Scanned};
use crate::signature::Envelope;
use crate::{
    Bundle, Content, FileEntry, Finding, Format, MANIFEST, Manifest, Mode, Nature, Policy, PublicKey,
    SIGNATURE,
};

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
    By(Envelope, PublicKey),
}

impl Policy {
    /// Admits or refuses a bundle. Checks in this order, and reports the first that fails:
    ///
    /// 1. the scan: [`Code::MaliciousContent`]
    /// 2. the digests in signature and manifest: [`Code::Tampered`]
    /// 3. manifest and model can be read: [`Code::InvalidBundle`]
    /// 4. the signature: [`Code::SignatureMissing`], [`Code::SignatureInvalid`]
    /// 5. the allow-list: [`Code::SignerUntrusted`]
    /// 6. the formats: [`Code::FormatDenied`]
    ///
    /// # Errors
    /// [`Rejected`] with the code, the words and everything that was found.
    pub fn verify(&self, bundle: Bundle) -> Result<Verified, Rejected> {
        let (scanned, entries) = examine(&bundle);
        let digest = bundle.digest();
        match self.check(&bundle, &scanned, &entries) {
            Ok((manifest, signer)) => {
                let development = signer.is_none();
                let findings = scanned.into_iter().flat_map(|file| file.findings).collect();
                let files = bundle.into_files();
                Ok(Verified { manifest, files, digest, signer, development, findings })
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
    ) -> Result<(Manifest, Option<Signer>), Error> {
        self.refuse_findings(scanned, Nature::Attack)?;
        let proof = self.prove(bundle);
        if let Proof::Unknown(envelope) | Proof::By(envelope, _) = &proof {
            envelope.check_files(entries.iter())?;
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
        self.check_formats(scanned)?;
        Ok((manifest, signer))
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
            Some((Ok(()), key)) => Proof::By(envelope, key.clone()),
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
            Proof::By(_, key) => match self.publisher(&key, &manifest.name) {
                Some(publisher) => {
                    let signer = Signer { publisher: publisher.to_owned(), key_id: key.id().to_owned() };
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

    fn check_formats(&self, scanned: &[Scanned]) -> Result<(), Error> {
        // Both were parsed strictly; whether a policy admits other JSON does not concern them.
        let own = |path: &str| path == MANIFEST || path == SIGNATURE;
        match scanned.iter().find(|file| !own(&file.path) && !self.formats.contains(&file.format)) {
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
