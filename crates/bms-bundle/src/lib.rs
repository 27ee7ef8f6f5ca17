//! A model as a manifest plus files: digests, OpenSSF Model Signing, scanning, and the load gate.
//!
//! A bundle is an ordinary folder. Beside the model's own files, which other tools open as they
//! are, lie `bundle.json` (what the folder is and what every file's digests are) and `model.sig`
//! (an [OpenSSF Model Signing](https://github.com/sigstore/model-transparency) signature).
//!
//! ```text
//! Draft ──write──▶ folder ──sign_dir──▶ folder + model.sig
//!                    │ Bundle::open: small files are read, large ones mapped
//!                    ▼
//!                 Bundle ──Policy::verify──▶ Verified | Rejected
//! ```
//!
//! Only a [`Verified`] gives model bytes to an engine, and [`Policy::verify`] is the only way to
//! get one. It checks the very contents it hands out: a small file is a copy that nothing changes any more, and
//! whether a mapped one was written to after the check [`Verified::recheck`] tells, after the load.
//!
//! ```
//! use bms_bundle::{Bundle, Draft, Manifest, Policy, SigningKey};
//!
//! # fn main() -> bms_wire::Result<()> {
//! # let manifest: Manifest = serde_json::from_str(r#"{"schema":1,"name":"demo","task":"tensor","model":"model.onnx",
//! #   "inputs":[{"name":"x","dtype":"f32","shape":[null,2]}],"outputs":[{"name":"y","dtype":"f32","shape":[null,2]}],
//! #   "pipeline":{"preprocess":{"kind":"tensor"},"postprocess":{"kind":"tensor"}},
//! #   "precision":"fp32","created_ms":0}"#).unwrap();
//! # let graph = b"\x08\x08\x3a\x00".to_vec();
//! # let temporary = tempfile::tempdir().unwrap();
//! # let dir = temporary.path().join("bundle");
//! let key = SigningKey::generate();
//! let mut draft = Draft::new(manifest);
//! draft.add("model.onnx", graph)?;
//! draft.write_signed(&dir, &key)?;
//!
//! let policy = Policy::trusting(key.public(), "me");
//! let verified = policy.verify(Bundle::open(&dir)?)?;
//! assert_eq!(verified.signer().unwrap().publisher, "me");
//! # Ok(())
//! # }
//! ```

mod approvals;
mod bare;
mod bundle;
mod content;
mod digest;
mod draft;
mod finding;
mod folder;
mod gate;
mod glob;
mod json;
mod key;
mod manifest;
mod path;
mod pipeline;
mod policy;
mod trust;

pub mod scan;
pub mod seal;
pub mod signature;
pub mod statement;

pub use approvals::{Approval, approve_dir};
pub use bundle::{Bundle, is_replaceable};
pub use content::Content;
pub use draft::{Draft, link_or_copy, write};
pub use finding::{Finding, Nature, Severity};
pub use gate::{Admitted, Rejected, Signer, Verified};
pub use key::{PublicKey, SigningKey};
pub use manifest::{DataRef, Evaluation, FileEntry, Lineage, Manifest, SourceRef, TensorInfo, check_name};
pub use path::check_path;
pub use pipeline::read_pipeline;
pub use policy::{Mode, Policy};
pub use scan::Format;
pub use signature::{sign_bundle, sign_dir};
pub use trust::{Action, ApprovalRule, Order, Revocation, Right, Rotation, TrustedKey};

/// A date such as `2027-01-31` or `2027-01-31T12:00:00Z` in milliseconds since 1970.
///
/// # Errors
/// [`bms_wire::Code::InvalidRequest`].
pub fn parse_time(text: &str) -> bms_wire::Result<i64> {
    trust::time::parse(text)
}

/// Milliseconds since 1970 as a date and time, UTC.
pub fn time_text(at_ms: i64) -> String {
    trust::time::to_text(at_ms)
}

/// The days of the calendar month, in UTC, that a day is in; both are counted from 1970-01-01.
pub fn month_around(day: i64) -> std::ops::Range<i64> {
    trust::time::month_around(day)
}

/// File name of the manifest.
pub const MANIFEST: &str = "bundle.json";
/// File name of the signature.
pub const SIGNATURE: &str = "model.sig";
/// Folder of the approvals: signatures of others over the same files.
pub const APPROVALS: &str = "model.approvals";
