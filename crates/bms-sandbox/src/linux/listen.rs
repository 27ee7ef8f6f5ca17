//! Between a confined process and its watcher: handing the listener over, and answering.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use super::decide::{Process, Verdict};
use super::ledger::Ledger;
use super::{Reach, kernel};
use crate::watch::Denied;

/// Bytes of what a process may reach, as it tells it.
const REACH_BYTES_MAX: usize = 64 << 10;
/// After how long sums of repeated calls are told for the first time, and at most. Each time takes twice as long as the
/// one before, so that a process that never stops fills nobody's log.
const TELL_FIRST: Duration = Duration::from_secs(30);
const TELL_AT_MOST: Duration = Duration::from_secs(3600);
/// Denied calls of a process that are answered at once. Later ones wait a little each, so that a process that does
/// nothing else does not take a processor of the watcher's.
const AT_ONCE: u64 = 256;
const WAIT: Duration = Duration::from_millis(2);

/// Sends the listener and what may be reached: a line of JSON.
pub(super) fn send(watcher: BorrowedFd<'_>, listener: OwnedFd, reach: &Reach) -> io::Result<()> {
    let mut line = serde_json::to_vec(reach).map_err(io::Error::other)?;
    line.push(b'\n');
    if REACH_BYTES_MAX < line.len() {
        return Err(io::Error::other("there is too much it may reach"));
    }
    let listeners = [listener.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&listeners));
    let mut sent = rustix::net::sendmsg(watcher, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    while sent < line.len() {
        let mut nothing = SendAncillaryBuffer::default();
        let rest = [IoSlice::new(&line[sent..])];
        sent += rustix::net::sendmsg(watcher, &rest, &mut nothing, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

/// Receives what [`send`] sends; `None` when the other side closes without.
fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(OwnedFd, Reach)>> {
    let mut line = Vec::new();
    let mut listener = None;
    while line.last() != Some(&b'\n') {
        let mut piece = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received =
            match rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut piece)], &mut control, flags) {
                Err(rustix::io::Errno::INTR) => continue,
                received => received?.bytes,
            };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                listener = descriptors.last().or(listener);
            }
        }
        if received == 0 || REACH_BYTES_MAX < line.len() {
            return Ok(None);
        }
        line.extend_from_slice(&piece[..received]);
    }
    let reach = serde_json::from_slice(&line).map_err(io::Error::other)?;
    Ok(listener.map(|listener| (listener, reach)))
}

/// See [`crate::Watch::run`].
pub(crate) fn watch(socket: BorrowedFd<'_>, pid: u32, tell: &mut dyn FnMut(Denied)) {
    // Without a listener there is nothing to answer, and dropping it lets the process's calls fail.
    let Ok(Some((listener, reach))) = receive(socket) else { return };
    let process = Process { pid, reach };
    let mut ledger = Ledger::default();
    let (mut told, mut every) = (Instant::now(), TELL_FIRST);
    while let Ok(there) = next(&listener, every.saturating_sub(told.elapsed())) {
        match there {
            There::Call(call) => answer(&listener, &process, &call, &mut ledger, tell),
            There::Nothing => {}
            There::End => break,
        }
        if every <= told.elapsed() {
            let sums = ledger.sums();
            if !sums.is_empty() {
                every = (2 * every).min(TELL_AT_MOST);
            }
            sums.into_iter().for_each(&mut *tell);
            told = Instant::now();
        }
    }
    ledger.sums().into_iter().for_each(tell);
}

enum There {
    Call(kernel::Call),
    Nothing,
    /// The last thread has ended.
    End,
}

fn next(listener: &OwnedFd, within: Duration) -> io::Result<There> {
    let mut polled = [PollFd::new(listener, PollFlags::IN)];
    let within = Timespec::try_from(within).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&within)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(There::Nothing),
        Err(e) => return Err(e.into()),
    }
    let events = polled[0].revents();
    if events.contains(PollFlags::IN) {
        return Ok(kernel::receive(listener.as_fd())?.map_or(There::Nothing, There::Call));
    }
    Ok(if events.is_empty() { There::Nothing } else { There::End })
}

fn answer(
    listener: &OwnedFd,
    process: &Process,
    call: &kernel::Call,
    ledger: &mut Ledger,
    tell: &mut dyn FnMut(Denied),
) {
    let listener = listener.as_fd();
    let verdict = process.judge(call);
    // What was read belongs to another process when this one is gone, and then nobody waits either.
    if !kernel::waits(listener, call) {
        return;
    }
    let (error, denied) = match verdict {
        Verdict::Made => (None, None),
        Verdict::Fails(error) => (Some(error), None),
        Verdict::Denied { error, call, target } => (Some(error), Some((call, target))),
    };
    if let Some((call, target)) = denied {
        if let Some(first) = ledger.note(call, target) {
            tell(first);
        }
        if AT_ONCE < ledger.total() {
            std::thread::sleep(WAIT);
        }
    }
    // An answer that cannot be given leaves the call waiting until the listener closes; it is never made.
    let _ = kernel::answer(listener, call, error);
}
