//! Unix sockets that wake nobody for having room.
//!
//! Each time one side of a Unix socket has read something, the kernel tells the other that there is room to write again; a
//! TCP socket does so only when there was none. Who waits for both sides' events at once, as Tokio's own socket does, is
//! therefore woken once more for every message: after a request was sent, and after it was answered. Here the socket
//! is watched for what comes, and for room only while a write has found none.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// How long accepting rests after it failed, for instance for want of file descriptors.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A connection over a Unix socket.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: AsyncFd<UnixStream>,
    /// While a write has found no room: a second descriptor of the same socket, watched for some.
    room: Option<AsyncFd<OwnedFd>>,
}

impl Socket {
    /// Connects to who listens there.
    ///
    /// # Errors
    /// As [`tokio::net::UnixStream::connect`].
    pub(crate) async fn connect(path: &Path) -> io::Result<Self> {
        // Tokio's knows how to wait where a queue of connections is full.
        Socket::new(tokio::net::UnixStream::connect(path).await?.into_std()?)
    }

    /// Of a stream that does not block.
    fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Socket { stream: watched(stream, Interest::READABLE)?, room: None })
    }

    fn poll_writing(
        &mut self,
        context: &mut Context<'_>,
        mut write: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let Some(room) = &self.room else {
                match write(self.stream.get_ref()) {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                        let second = self.stream.get_ref().as_fd().try_clone_to_owned()?;
                        self.room = Some(watched(second, Interest::WRITABLE)?);
                        continue;
                    }
                    written => return Poll::Ready(written),
                }
            };
            let mut guard = ready!(room.poll_write_ready(context))?;
            if let Ok(written) = guard.try_io(|_| write(self.stream.get_ref())) {
                self.room = None;
                return Poll::Ready(written);
            }
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.stream.poll_read_ready(context))?;
            let into = buffer.initialize_unfilled();
            let wanted = into.len();
            match guard.try_io(|stream| stream.get_ref().read(into)) {
                Ok(Ok(read)) => {
                    // A socket that gave less than it could have is empty, and says when it no longer is. One that was
                    // closed says so once, and is at its end for good.
                    if 0 < read && read < wanted {
                        guard.clear_ready();
                    }
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |mut stream| stream.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_writing(context, |mut stream| stream.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.stream.get_ref().shutdown(Shutdown::Write))
    }
}

/// Has the runtime watch a descriptor for some of its events alone.
#[expect(
    deprecated,
    reason = "what replaces it is unsafe, for the sake of types whose descriptor changes: these keep theirs while they live"
)]
fn watched<T: OwnsItsDescriptor>(descriptor: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, interest)
}

/// Types that have one descriptor, which is theirs alone, for as long as they live.
trait OwnsItsDescriptor: AsRawFd {}
impl OwnsItsDescriptor for UnixStream {}
impl OwnsItsDescriptor for UnixListener {}
impl OwnsItsDescriptor for OwnedFd {}

/// Accepts such connections.
#[derive(Debug)]
pub(crate) struct SocketListener {
    listener: AsyncFd<UnixListener>,
}

impl SocketListener {
    /// Of a listener that does not block.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(crate) fn new(listener: UnixListener) -> io::Result<Self> {
        Ok(SocketListener { listener: watched(listener, Interest::READABLE)? })
    }

    async fn try_accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let accept = |listener: &UnixListener| listener.accept();
        let (stream, address) = self.listener.async_io(Interest::READABLE, accept).await?;
        stream.set_nonblocking(true)?;
        Ok((Socket::new(stream)?, address))
    }
}

impl Listener for SocketListener {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.try_accept().await {
                Ok(accepted) => return accepted,
                Err(e) => {
                    tracing::error!("a connection cannot be accepted: {e}");
                    tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.get_ref().local_addr()
    }
}

#[cfg(test)]
mod tests;
