//! Which protocol a connection speaks, told by its first bytes, as clients with prior knowledge open HTTP/2 without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What a client of HTTP/2 sends first, <https://www.rfc-editor.org/rfc/rfc9113#section-3.4>.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection whose first bytes were looked at; they are read again from here.
pub(super) struct Opened<I> {
    seen: Bytes,
    io: I,
}

impl<I: AsyncRead + Unpin> Opened<I> {
    /// A connection that is not looked at.
    pub(super) fn unseen(io: I) -> Self {
        Opened { seen: Bytes::new(), io }
    }

    /// Has bytes that were read from it read again.
    pub(super) fn put_back(&mut self, mut bytes: BytesMut) {
        bytes.extend_from_slice(&self.seen);
        self.seen = bytes.freeze();
    }

    /// Reads until it is clear what is spoken; whether it is HTTP/2.
    pub(super) async fn look(mut io: I) -> io::Result<(Self, bool)> {
        let mut seen = BytesMut::with_capacity(PREFACE.len());
        loop {
            let is_http2 = seen[..] == *PREFACE;
            if is_http2 || !PREFACE.starts_with(&seen) {
                return Ok((Opened { seen: seen.freeze(), io }, is_http2));
            }
            let more = PREFACE.len() - seen.len();
            if (&mut io).take(more as u64).read_buf(&mut seen).await? == 0 {
                return Ok((Opened { seen: seen.freeze(), io }, false));
            }
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opened<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.seen.is_empty() {
            return Pin::new(&mut self.io).poll_read(context, buffer);
        }
        let length = self.seen.len().min(buffer.remaining());
        buffer.put_slice(&self.seen[..length]);
        self.seen.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opened<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
