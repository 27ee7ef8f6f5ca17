//! How Linux confines a process.

mod calls;
mod decide;
mod filter;
mod kernel;
mod ledger;
mod listen;
mod memory;

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bms_wire::{Code, Error, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

pub(crate) use kernel::support;
pub(crate) use listen::watch;

use crate::{Confinement, Enforced};

/// The newest version of Landlock's interface whose rights are asked for: later ones add what the filter of calls
/// denies anyway.
const LANDLOCK: ABI = ABI::V6;

/// Keeps files that this process was given by whoever started it from the processes it starts: they would hold them open
/// past every rule.
pub fn keep_files_from_children() {
    kernel::close_on_exec_from(3);
}

/// Confines this process for good; to be called first of all, while it has one thread. `watcher` is a connected Unix
/// socket to a [`crate::Watch`], which then answers and tells what is not allowed; without one that fails silently.
///
/// Missing support is no error: look at what comes back.
///
/// # Errors
/// [`Code::Internal`] when the kernel refuses what it says it supports, or the watcher has gone.
pub fn enter(confinement: &Confinement, watcher: Option<BorrowedFd<'_>>) -> Result<Enforced> {
    let support = support();
    let bystanders = threads().saturating_sub(1);
    rustix::thread::set_no_new_privs(true).map_err(|e| refused("giving up new privileges", e))?;
    set_limits(confinement)?;
    let landlock = match support.landlock {
        Some(version) if restrict_files(confinement)? => Some(version),
        _ => None,
    };
    drop_capabilities()?;
    let mut enforced = Enforced { landlock, bystanders, ..Enforced::default() };
    if !support.seccomp {
        return Ok(enforced);
    }
    if let (Some(watcher), true) = (watcher, support.notification) {
        match kernel::install(&filter::program(filter::Denial::Told), true) {
            Ok(listener) => {
                let listener = listener.ok_or_else(|| refused("filtering calls", "there is no listener"))?;
                introduce(watcher, listener, confinement)?;
                (enforced.filter, enforced.watched) = (true, true);
                return Ok(enforced);
            }
            // Another watcher stands above this process, and the kernel allows one.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => {}
            Err(e) => return Err(refused("filtering calls", e)),
        }
    }
    kernel::install(&filter::program(filter::Denial::Silent), false)
        .map_err(|e| refused("filtering calls", e))?;
    enforced.filter = true;
    Ok(enforced)
}

fn refused(doing: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("the process cannot be confined: {doing} failed: {why}"))
        .hint("`bms doctor` says what this machine enforces.")
}

/// Threads of this process. One whose number the system does not tell counts as having others.
pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(2, |tasks| tasks.count())
}

/// No core dump, which would hold the weights; no bytes written to any file; a bounded number of open files.
fn set_limits(confinement: &Confinement) -> Result<()> {
    // A write beyond the limit shall fail, not end the process.
    kernel::ignore_file_size_signal();
    let limit = |resource: Resource, most: u64| {
        let had = rustix::process::getrlimit(resource);
        let most = had.maximum.map_or(most, |had| had.min(most));
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        rustix::process::setrlimit(resource, limit).map_err(|e| refused("setting a limit", e))
    };
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, confinement.open_files_max)?;
    confinement.address_space_max.map_or(Ok(()), |bytes| limit(Resource::As, bytes))
}

/// Gives up the rights of an administrator. Only reading what others may not read stays, when it was there: the model
/// may belong to another user, and what is read Landlock bounds.
fn drop_capabilities() -> Result<()> {
    let had = rustix::thread::capabilities(None).map_err(|e| refused("reading capabilities", e))?;
    let kept = CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets {
        effective: had.effective & kept,
        permitted: had.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(|e| refused("giving up capabilities", e))
}

/// Whether Landlock is in force now.
fn restrict_files(confinement: &Confinement) -> Result<bool> {
    let failed = |e: RulesetError| refused("bounding its files", e);
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for path in &confinement.readable {
        let writes = confinement.writable.contains(path);
        rules = allow(rules, path, writes).map_err(failed)?;
    }
    let status = rules.restrict_self().map_err(failed)?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

fn allow(
    rules: RulesetCreated,
    path: &Path,
    writes: bool,
) -> std::result::Result<RulesetCreated, RulesetError> {
    // Gone since it was listed: then there is nothing to reach.
    let Ok(file) = PathFd::new(path) else { return Ok(rules) };
    let mut access: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    if path.is_dir() {
        access |= AccessFs::ReadDir;
    }
    if writes {
        access |= AccessFs::WriteFile;
    }
    let rules = rules.add_rule(PathBeneath::new(&file, access))?;
    if path.starts_with("/proc") {
        pin(&file);
    }
    Ok(rules)
}

/// Holds an entry of `/proc` open for good. A rule stands for an inode, and those of `/proc` are made anew when they
/// were forgotten, which they are not as long as somebody holds them.
fn pin(file: &PathFd) {
    if let Ok(held) = file.as_fd().try_clone_to_owned() {
        std::mem::forget(File::from(held));
    }
}

/// Gives the listener away, with what may be reached. This process keeps no copy: when the watcher goes, so does it.
fn introduce(watcher: BorrowedFd<'_>, listener: OwnedFd, confinement: &Confinement) -> Result<()> {
    let reach = Reach { readable: confinement.readable.clone(), writable: confinement.writable.clone() };
    listen::send(watcher, listener, &reach).map_err(|e| refused("reaching the watcher", e))
}

/// What the watcher is told that the process may reach.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Reach {
    pub(crate) readable: Vec<PathBuf>,
    pub(crate) writable: Vec<PathBuf>,
}
