//! The watcher's side: who starts a process that confines itself hears of what it is denied.

use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// Something a confined process tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// The call's name, such as `openat` or `execve`.
    pub call: &'static str,
    /// What it was about: a path, a program, a kind of socket. Printable, and of bounded length.
    pub target: Option<String>,
    /// Times since this was last told.
    pub times: u64,
}

/// The watcher of one process: an end of a pair of sockets, whose other end the process gets as its standard input.
///
/// Closing it, or calling [`Watch::let_go`], closes the process's standard input.
#[derive(Clone, Debug)]
pub struct Watch {
    socket: Arc<UnixStream>,
}

impl Watch {
    /// A watcher, and the end that the process gets.
    ///
    /// # Errors
    /// When there are no file descriptors left.
    pub fn pair() -> io::Result<(Watch, OwnedFd)> {
        let (own, others) = UnixStream::pair()?;
        Ok((Watch { socket: Arc::new(own) }, others.into()))
    }

    /// Answers the calls of the process with this number until it ends, and tells what it denies: the first time at
    /// once, repetitions in sums. Blocks; returns at once when the process ends unconfined or without being watched.
    pub fn run(self, pid: u32, mut tell: impl FnMut(Denied)) {
        crate::system::watch(self.socket.as_fd(), pid, &mut tell);
    }

    /// Hands the process a few bytes, which it reads from its standard input: a secret that no command line should show.
    /// They must fit into the socket's buffer, or this waits for the process.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn hand(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.socket).write_all(bytes)
    }

    /// Closes the process's standard input. A running [`Watch::run`] goes on until the process ends.
    pub fn let_go(&self) {
        // Closed already when the process has ended.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
