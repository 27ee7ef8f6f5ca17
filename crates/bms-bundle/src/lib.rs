//! A model as a manifest plus files: digests, OpenSSF Model Signing, scanning, and the load gate.
//!
//! A bundle is an ordinary folder. Beside the model's own files, which other tools open as they
//! are, lie `bundle.json` (what the folder is and what every file's digests are) and `model.sig`
//! (an [OpenSSF Model Signing](https://github.com/sigstore/model-transparency) signature).
//!
//! ```text
//! Draft ──write──▶ folder ──sign_dir──▶ folder + model.sig
//!                    │ Bundle::open: every byte is read once, into memory
//!                    ▼
//!                 Bundle ──Policy::verify──▶ Verified | Rejected
//! ```
//!
//! Only a [`Verified`] gives model bytes to an engine, and [`Policy::verify`] is the only way to
//! get one. It checks the very bytes it hands out, so nothing can change between the check and
//! the load.

mod bundle;
mod draft;
mod finding;
mod folder;
mod gate;
mod glob;
mod json;
mod key;
mod manifest;
mod path;
mod policy;

pub mod scan;
pub mod signature;

pub use bundle::Bundle;
pub use draft::{Draft, write};
pub use finding::{Finding, Nature, Severity};
pub use gate::{Rejected, Signer, Verified};
pub use key::{PublicKey, SigningKey};
pub use manifest::{DataRef, Evaluation, FileEntry, Lineage, Manifest, TensorInfo, check_name};
pub use path::check_path;
pub use policy::{Mode, Policy, TrustedKey};
pub use scan::Format;
pub use signature::{sign_bundle, sign_dir};

/// File name of the manifest.
pub const MANIFEST: &str = "bundle.json";
/// File name of the signature.
pub const SIGNATURE: &str = "model.sig";
