//! Reading what a call's arguments point to, in the memory of the process that makes it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes of a path (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;
/// Reads end at such a border, behind which memory may be absent.
const PAGE_BYTES: u64 = 4096;

/// What is wrong with text in foreign memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The system does not let this process look.
    Closed,
    /// There is nothing, or no end.
    Bad,
}

/// The text at `address` in the memory of a thread, without its terminator.
pub(super) fn text(thread: u32, address: u64) -> Result<Vec<u8>, Unreadable> {
    let memory = File::open(format!("/proc/{thread}/mem")).map_err(|_| Unreadable::Closed)?;
    let mut text = Vec::new();
    let mut at = address;
    while text.len() < PATH_BYTES_MAX {
        let mut piece = [0; PAGE_BYTES as usize];
        let wanted = (PAGE_BYTES - at % PAGE_BYTES) as usize;
        let read = memory.read_at(&mut piece[..wanted], at).map_err(|e| match e.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Unreadable::Closed,
            _ => Unreadable::Bad,
        })?;
        if let Some(end) = piece[..read].iter().position(|byte| *byte == 0) {
            text.extend_from_slice(&piece[..end]);
            return Ok(text);
        }
        if read == 0 {
            return Err(Unreadable::Bad);
        }
        text.extend_from_slice(&piece[..read]);
        at = at.checked_add(read as u64).ok_or(Unreadable::Bad)?;
    }
    Err(Unreadable::Bad)
}
