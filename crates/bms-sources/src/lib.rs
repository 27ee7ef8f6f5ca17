//! Models from elsewhere: a Hugging Face hub, an OCI registry, a web server, a folder.
//!
//! ```text
//! Source::parse ─▶ list: what is there, by which digests ─▶ transfer, file by file: resumed, verified, scanned
//!                                                               ─▶ put together beside the target, renamed into place
//! ```
//!
//! Everything that answers here is a stranger. Names are checked before they become paths, lengths before bytes are kept,
//! digests before a file counts as arrived; a token goes to the host it is for and to no other. Nothing is seen at the
//! target before all of it is there, verified and scanned; what has arrived stays aside for the next try, whatever ended
//! this one.

mod auth;
mod digest;
mod gather;
mod http;
mod hub;
mod local;
mod oci;
mod patterns;
mod plan;
mod pull;
mod retry;
mod source;
mod staging;
mod transfer;
mod web;

pub use auth::Token;
pub use digest::Expected;
pub use http::{Http, HttpOptions};
pub use hub::{Entry, Page, parse_page};
pub use oci::{Manifest, parse_manifest};
pub use patterns::Patterns;
pub use pull::{Options, Pulled, PulledFile, Watch, pull};
pub use source::{HubKind, Source};
pub use url::Url;
