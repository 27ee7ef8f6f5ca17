//! The kernel's calls that no crate wraps safely: the filter, its listener, and a few settings of the process.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, c_ulong, c_void, seccomp_notif, seccomp_notif_resp, sock_filter, sock_fprog};

use crate::Support;

/// `LANDLOCK_CREATE_RULESET_VERSION` of `linux/landlock.h`: asks for the version instead of making anything.
const LANDLOCK_VERSION: c_long = 1;

/// A call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Names it in the answer.
    pub(crate) id: u64,
    /// The thread that makes it.
    pub(crate) thread: u32,
    /// Its number.
    pub(crate) number: i32,
    /// Its arguments.
    pub(crate) arguments: [u64; 6],
}

/// Installs a filter on this thread and those it makes. With `listens`, what the filter hands over comes out of the
/// descriptor that is returned.
pub(crate) fn install(program: &[sock_filter], listens: bool) -> io::Result<Option<OwnedFd>> {
    if !listens {
        seccomp_filter(program, 0)?;
        return Ok(None);
    }
    // A thread that waits for the watcher shall not be disturbed by signals; kernels before 5.19 cannot promise it.
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    let listener = match seccomp_filter(program, flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => seccomp_filter(program, flags)?,
        other => other?,
    };
    // SAFETY: with the flag for it the call returns a new descriptor, which nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

fn seccomp_filter(program: &[sock_filter], flags: c_ulong) -> io::Result<c_int> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the kernel reads `len` instructions behind the pointer, both taken from one slice that lives until the call
    // returns, and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    // Descriptors and 0 are small.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// The next call that waits for an answer; `None` when the one that was there has gone meanwhile.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> io::Result<Option<Call>> {
    // SAFETY: the struct holds integers alone, for which zero is a value.
    let mut call: seccomp_notif = unsafe { zeroed() };
    match ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV as c_ulong, (&raw mut call).cast()) {
        Ok(()) => {
            Ok(Some(Call { id: call.id, thread: call.pid, number: call.data.nr, arguments: call.data.args }))
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the call still waits, so that what was read of its process is its process's.
pub(crate) fn waits(listener: BorrowedFd<'_>, call: &Call) -> bool {
    let mut id = call.id;
    ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_ID_VALID as c_ulong, (&raw mut id).cast()).is_ok()
}

/// Answers a call: it is made, or fails with an error. A call that has gone meanwhile needs no answer.
pub(crate) fn answer(listener: BorrowedFd<'_>, call: &Call, error: Option<c_int>) -> io::Result<()> {
    let mut response = seccomp_notif_resp {
        id: call.id,
        val: 0,
        error: error.map_or(0, |error| -error),
        flags: match error {
            // The flag is 1.
            None => libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Some(_) => 0,
        },
    };
    match ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND as c_ulong, (&raw mut response).cast()) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
        _ => Ok(()),
    }
}

fn ioctl(listener: BorrowedFd<'_>, request: c_ulong, about: *mut c_void) -> io::Result<()> {
    // SAFETY: the callers above pass the struct that belongs to the request, and it outlives the call.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), request as _, about) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets a write that goes over the limit of a file's size fail instead of ending the process.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: ignoring a signal runs no code.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Lets descriptors from this one on end with the program that holds them.
pub(crate) fn close_on_exec_from(first: u32) {
    // SAFETY: the flag closes nothing in this process. A kernel before 5.11 refuses, and leaves things as they are.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

pub(crate) fn support() -> Support {
    // SAFETY: with this flag the kernel takes no pointer and makes nothing.
    let landlock = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<c_void>(),
            0_usize,
            LANDLOCK_VERSION,
        )
    };
    Support {
        landlock: u32::try_from(landlock).ok().filter(|version| *version != 0),
        seccomp: has_action(libc::SECCOMP_RET_ERRNO),
        notification: has_action(libc::SECCOMP_RET_USER_NOTIF) && notifications_fit(),
        cgroup: cgroup(),
    }
}

fn has_action(action: u32) -> bool {
    // SAFETY: the kernel reads one 32-bit number behind the pointer.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0 as c_ulong, &raw const action)
    };
    result == 0
}

/// Whether the kernel's structs are those known here; later kernels may have larger ones.
fn notifications_fit() -> bool {
    // SAFETY: the struct holds integers alone, for which zero is a value.
    let mut sizes: libc::seccomp_notif_sizes = unsafe { zeroed() };
    // SAFETY: the kernel writes this struct and nothing beyond.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0 as c_ulong, &raw mut sizes)
    };
    result == 0
        && usize::from(sizes.seccomp_notif) <= size_of::<seccomp_notif>()
        && usize::from(sizes.seccomp_notif_resp) <= size_of::<seccomp_notif_resp>()
}

fn cgroup() -> Option<u8> {
    let root = std::path::Path::new("/sys/fs/cgroup");
    match (root.join("cgroup.controllers").exists(), root.join("memory").exists()) {
        (true, _) => Some(2),
        (false, true) => Some(1),
        (false, false) => None,
    }
}
