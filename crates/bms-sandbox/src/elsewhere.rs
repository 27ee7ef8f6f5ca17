//! Systems on which nothing is enforced; the caller learns that and decides.

use std::os::fd::BorrowedFd;

use bms_wire::Result;

use crate::watch::Denied;
use crate::{Confinement, Enforced, Support};

/// Confines nothing on this system.
///
/// # Errors
/// None.
pub fn enter(_confinement: &Confinement, _watcher: Option<BorrowedFd<'_>>) -> Result<Enforced> {
    Ok(Enforced::default())
}

/// Without effect on this system.
pub fn keep_files_from_children() {}

/// Not known here.
pub(crate) fn threads() -> usize {
    usize::MAX
}

pub(crate) fn support() -> Support {
    Support::default()
}

/// There is nothing to watch.
pub(crate) fn watch(_socket: BorrowedFd<'_>, _pid: u32, _tell: &mut dyn FnMut(Denied)) {}
