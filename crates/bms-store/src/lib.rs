//! Files as content-defined chunks, so that what two files share is stored and sent once.
//!
//! A file is cut where its content says so ([`Cutter`]), chunks are named by BLAKE3, compressed where that helps and gathered in
//! packs of 64 MiB; a [`Recipe`] says what a file consists of, and is written last. All of it lies in an object store: a
//! folder, or a bucket of an S3 server ([`Location`]). The crate knows bytes, not models.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use bms_store::{FileWriter, Location, Store};
//! let store = Store::open(&Location::Memory).await?;
//! let mut push = store.push().await?;
//! let mut file = FileWriter::new(Some(7));
//! push.write(&mut file, b"weights").await?;
//! let digest = push.end(file, None).await?.digest;
//! assert!(!store.has(digest).await?, "nothing is visible before the end");
//! push.finish().await?;
//! assert_eq!(&store.read(digest, 0..7).await?[..], b"weights");
//! # Ok::<(), bms_wire::Error>(()) }).unwrap();
//! ```
//!
//! What was acknowledged is durable, and a process may be killed at any point. How garbage is collected
//! while others push is argued in `docs/adr/0011-chunks-packs-and-leases.md`.

mod condemned;
mod cut;
mod describe;
mod digest;
mod encode;
mod fetch;
mod gc;
#[doc(hidden)]
pub mod hostile;
mod index;
mod lease;
mod location;
mod objects;
mod pack;
mod push;
mod recipe;
mod scrub;
mod store;

pub use cut::{CHUNK_BYTES_MAX, Cutter};
pub use describe::{frame, unframe};
pub use digest::Digest;
pub use location::Location;
pub use recipe::{ChunkRef, Recipe};

// The store: every operation is a method of it, in the module of its subject.
pub use store::Store;

// Putting files in.
pub use lease::Lease;
pub use push::{FileWriter, Push, Pushed, Stored};

// Getting them out.
pub use fetch::{Fetched, FileReader, RANGE_BYTES_MAX, assemble};

// Keeping it in order.
pub use gc::{GcOptions, GcReport, Roots};
pub use scrub::{Problem, Replica, ScrubOptions, ScrubReport};
