//! What becomes of a call that is out of the ordinary.
//!
//! Opening what the process may reach is let pass, and Landlock judges it once more; what is not there fails as it always
//! does. Everything else is denied and told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use libc::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, AF_VSOCK, AT_FDCWD, EACCES, EFAULT, ENAMETOOLONG,
    ENOENT, EPERM, O_ACCMODE, O_CREAT, O_RDONLY, O_TMPFILE, O_TRUNC, c_int, c_long,
};

use super::kernel::Call;
use super::memory::{self, Unreadable};
use super::{Reach, calls};

/// Characters of a target that are told.
const TARGET_CHARS_MAX: usize = 256;

/// A watched process.
#[derive(Debug)]
pub(super) struct Process {
    /// Its number.
    pub(super) pid: u32,
    /// What it may reach.
    pub(super) reach: Reach,
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is made; the kernel's other rules still hold.
    Made,
    /// It fails, as it would without any confinement.
    Fails(c_int),
    /// It fails, and that is told.
    Denied { error: c_int, call: &'static str, target: Option<String> },
}

impl Process {
    /// Judges a call.
    pub(super) fn judge(&self, call: &Call) -> Verdict {
        let number = c_long::from(call.number);
        let [first, second, third, ..] = call.arguments;
        // Descriptors and flags are 32-bit numbers, whatever stands above them.
        let (first_low, third_low) = (first as c_int, third as c_int);
        match number {
            libc::SYS_openat => self.opening(call, first_low, second, third_low),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open => self.opening(call, AT_FDCWD, first, second as c_int),
            // Of a thread of its own; the number is the argument itself and cannot change any more.
            libc::SYS_sched_setaffinity if self.is_thread(first_low) => Verdict::Made,
            libc::SYS_execve => {
                self.denied(call, EPERM, memory::text(call.thread, first).ok().map(printable))
            }
            libc::SYS_execveat => {
                self.denied(call, EPERM, memory::text(call.thread, second).ok().map(printable))
            }
            libc::SYS_socket | libc::SYS_socketpair => self.denied(call, EPERM, Some(family(first_low))),
            libc::SYS_clone | libc::SYS_clone3 => self.denied(call, EPERM, Some("a process".to_owned())),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork | libc::SYS_vfork => self.denied(call, EPERM, Some("a process".to_owned())),
            libc::SYS_connect => self.denied(call, EPERM, None),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_creat => {
                self.denied(call, EACCES, memory::text(call.thread, first).ok().map(printable))
            }
            _ => self.denied(call, EPERM, None),
        }
    }

    fn denied(&self, call: &Call, error: c_int, target: Option<String>) -> Verdict {
        Verdict::Denied { error, call: calls::name(call.number), target }
    }

    fn is_thread(&self, number: c_int) -> bool {
        0 < number && Path::new(&format!("/proc/{}/task/{number}", self.pid)).exists()
    }

    fn opening(&self, call: &Call, folder: c_int, path: u64, flags: c_int) -> Verdict {
        let path = match memory::text(call.thread, path) {
            Ok(path) if path.is_empty() => return Verdict::Fails(ENOENT),
            Ok(path) => PathBuf::from(OsString::from_vec(path)),
            Err(Unreadable::Bad) => return Verdict::Fails(EFAULT),
            // The system keeps processes from each other's memory. Landlock needs no path.
            Err(Unreadable::Closed) => return Verdict::Made,
        };
        let writes = flags & O_ACCMODE != O_RDONLY
            || flags & (O_CREAT | O_TRUNC) != 0
            || flags & O_TMPFILE == O_TMPFILE;
        let told = |path: &Path| {
            let path = printable(path.as_os_str().to_owned().into_vec());
            self.denied(call, EACCES, Some(if writes { format!("{path} (to write)") } else { path }))
        };
        let path = self.seen_from_here(call, folder, &path);
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && writes => return told(&path),
            Err(e) => return Verdict::Fails(e.raw_os_error().unwrap_or(ENAMETOOLONG)),
        };
        let within = |roots: &[PathBuf]| roots.iter().any(|root| real.starts_with(root));
        match within(if writes { &self.reach.writable } else { &self.reach.readable }) {
            true => Verdict::Made,
            false => told(&real),
        }
    }

    /// A path as this process would name it: absolute, and with the other's `/proc/self`.
    fn seen_from_here(&self, call: &Call, folder: c_int, path: &Path) -> PathBuf {
        let base = match folder {
            AT_FDCWD => format!("/proc/{}/cwd", self.pid),
            folder => format!("/proc/{}/fd/{folder}", self.pid),
        };
        // An absolute path stands alone. `.` and doubled slashes go.
        let path: PathBuf = Path::new(&base).join(path).components().collect();
        let mut parts = path.components();
        let proc = [Component::RootDir, Component::Normal("proc".as_ref())];
        if [parts.next(), parts.next()] != proc.map(Some) {
            return path;
        }
        match parts.next() {
            Some(Component::Normal(name)) if name == "self" => {
                Path::new(&format!("/proc/{}", self.pid)).join(parts.as_path())
            }
            Some(Component::Normal(name)) if name == "thread-self" => {
                Path::new(&format!("/proc/{}/task/{}", self.pid, call.thread)).join(parts.as_path())
            }
            _ => path,
        }
    }
}

/// Foreign bytes as text for a log: what is no printable character is escaped, and the end cut off.
fn printable(bytes: Vec<u8>) -> String {
    let text = String::from_utf8_lossy(&bytes);
    let mut printed = String::new();
    for character in text.chars().take(TARGET_CHARS_MAX) {
        match character.is_control() {
            true => printed.extend(character.escape_default()),
            false => printed.push(character),
        }
    }
    if text.chars().nth(TARGET_CHARS_MAX).is_some() {
        printed.push('…');
    }
    printed
}

fn family(number: c_int) -> String {
    match number {
        AF_UNIX => "Unix".to_owned(),
        AF_INET => "IPv4".to_owned(),
        AF_INET6 => "IPv6".to_owned(),
        AF_NETLINK => "netlink".to_owned(),
        AF_PACKET => "packet".to_owned(),
        AF_VSOCK => "vsock".to_owned(),
        other => format!("family {other}"),
    }
}

#[cfg(test)]
mod tests;
