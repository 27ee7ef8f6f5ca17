//! Sealed bundles: a model whose files nobody reads without its key.
//!
//! ```text
//! bundle.json    what may be known without a key: name, task, measurements, that it was scanned
//! sealed.bms     every file of the model's own bundle, manifest and signature included, encrypted
//! sealed.keys    the envelope: the model's data key, wrapped for each of those who may open it
//! model.sig      over the first two; the envelope has its own, so that it can be replaced
//! ```
//!
//! A random 256-bit *data key* is made for each sealed bundle. Keys derived from it encrypt the list of files and,
//! in chunks of their own, each file (`cipher`). Every chunk is authenticated together with the model, the file, its
//! place and the lengths, so none can be moved, dropped, repeated or taken from another bundle. Replacing the envelope
//! changes who can open the bundle, never the data, hence nor its identity.

mod cipher;
mod envelope;
mod header;
mod info;
mod keyring;
mod kms;
mod lease;
mod open;
mod pieces;
mod recipient;
mod region;
mod rekey;
mod trial;
mod write;

pub use cipher::DataKey;
pub use envelope::Envelope;
pub use header::{Header, check_preamble};
pub use info::{ScanRecord, SealInfo};
pub use keyring::{Key, Keyring};
pub use kms::Kms;
pub use lease::{Clock, Lease, LeaseTerms, LeasedKey};
pub use recipient::{PassphraseCost, Recipient, To};
pub use rekey::{Rekeyed, lease_dir, rekey_dir};
pub use trial::Trial;
pub use write::{SealOptions, seal_to, unseal_to};

pub(crate) use info::check_outside;
pub(crate) use lease::system_ms;
pub(crate) use open::open;
pub(crate) use region::Secret;

/// File name of the encrypted files.
pub const SEALED: &str = "sealed.bms";
/// File name of the envelope.
pub const ENVELOPE: &str = "sealed.keys";
