//! Confines a process that runs a foreign model, and tells what it tries all the same.
//!
//! A process calls [`enter`] first of all, while it has one thread. From then on the kernel lets it read what its
//! [`Confinement`] lists and write nothing; it has no sockets but those it holds, starts no program and no process,
//! and has no rights of an administrator. The filter of its calls has a default, and the default is no.
//!
//! What is denied is told: the process that started it gets the other side of the filter ([`Watch`]), answers every
//! call that is out of the ordinary, and hears of each it denies ([`Denied`]). An answer is no more than that: what
//! the watcher lets pass Landlock still judges on its own, so that nothing depends on what a path in foreign memory
//! says a moment later. When the watcher goes away, these calls fail.
//!
//! What a machine cannot enforce is no error, but [`Enforced`] says it, and whoever loads the model decides.
//! [`Support`] says beforehand what a machine can do.

mod child;
mod confinement;
mod enforced;
mod environment;
mod support;
mod watch;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod elsewhere;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod linux;

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
use elsewhere as system;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
use linux as system;

pub use child::end_with_parent;
pub use confinement::Confinement;
pub use enforced::Enforced;
pub use environment::set_variable;
pub use support::Support;
pub use system::{enter, keep_files_from_children};
pub use watch::{Denied, Watch};
