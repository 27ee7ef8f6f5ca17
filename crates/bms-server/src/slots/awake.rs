//! Waiting awake for an answer that comes at once.
//!
//! A small graph answers within the time it takes to put a processor to sleep and to wake it again. While nothing else is
//! asked of this server, whoever sent such a request therefore looks for its answer for a moment before sleeping, as the
//! `halt_poll_ns` of KVM does for a virtual machine (<https://docs.kernel.org/virt/kvm/halt-polling.html>). It is given
//! up where it does not help: slow answers, several requests at a time, a machine with a single processor.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// How long an answer is looked for, and from how quick an answer on.
const LOOK_MAX: Duration = Duration::from_micros(200);

/// Requests of this server that wait for an answer of any slot.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A connection to a slot on this machine.
pub(super) struct Awake {
    stream: UnixStream,
    /// Requests that wait on connections like this one.
    waiting: &'static AtomicUsize,
    /// When the request that waits was sent.
    sent: Option<Instant>,
    /// What answers took lately, whichever way they were waited for.
    took: Duration,
    /// Whether something has come of which the runtime may not have heard.
    came: bool,
}

impl Awake {
    pub(super) fn new(stream: UnixStream) -> Self {
        Awake::among(&WAITING, stream)
    }

    fn among(waiting: &'static AtomicUsize, stream: UnixStream) -> Self {
        Awake { stream, waiting, sent: None, took: LOOK_MAX, came: false }
    }

    /// Whether nobody else waits.
    fn is_alone(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 1
    }

    /// Looks for the answer for a moment.
    fn look(&mut self, sent: Instant) -> bool {
        let deadline = sent + LOOK_MAX;
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            if matches!(poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], Some(&now)), Ok(1..)) {
                return true;
            }
            if deadline <= Instant::now() || !self.is_alone() {
                return false;
            }
            std::hint::spin_loop();
        }
    }

    fn begin(&mut self) {
        if self.sent.is_none() {
            self.waiting.fetch_add(1, Ordering::Relaxed);
        }
        self.sent = Some(Instant::now());
    }

    fn end(&mut self) {
        let Some(sent) = self.sent.take() else { return };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        // One slow answer does not make a slot slow, but it takes some quick ones to make up for it.
        self.took = (3 * self.took + sent.elapsed().min(8 * LOOK_MAX)) / 4;
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.end();
    }
}

/// Looking takes the processor from the process that is to answer when there is no other.
fn has_room() -> bool {
    static ROOM: OnceLock<bool> = OnceLock::new();
    *ROOM.get_or_init(|| std::thread::available_parallelism().is_ok_and(|processors| 1 < processors.get()))
}

impl AsyncRead for Awake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.came) {
            // Past the runtime, which has not looked meanwhile.
            let room = buffer.initialize_unfilled();
            match rustix::io::read(&self.stream, room) {
                Ok(bytes) => {
                    buffer.advance(bytes);
                    self.end();
                    return Poll::Ready(Ok(()));
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        self.end();
        Poll::Ready(read)
    }
}

impl AsyncWrite for Awake {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if let Some(sent) = self.sent
            && !self.came
            && self.took <= LOOK_MAX
            && self.is_alone()
            && has_room()
            && self.look(sent)
        {
            self.came = true;
            // Reading comes next, although nobody says that there is something to read.
            context.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
