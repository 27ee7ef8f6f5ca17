//! Work that goes on until it is told to end.
//!
//! The body of an `async fn` is compiled by the crate that polls it, with all it awaits: every program with a server in
//! it would compile the server again, and a test program once for each way in which it ends one. What is boxed here is
//! compiled here.

use std::pin::Pin;

use bms_wire::Result;

/// The work of a server, or of a worker, until its end.
pub type Work = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Done when work shall end.
pub(crate) type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;
