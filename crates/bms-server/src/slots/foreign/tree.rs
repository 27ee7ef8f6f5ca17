//! All processes of an engine together: many start others for their work.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::process::{self, Usage};

/// Processes of one engine that are looked at.
const PROCESSES_MAX: usize = 1000;
/// How the state of a port that is listened on is written in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// A process and all that descend from it.
fn tree(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut at = 0;
    while let Some(&pid) = all.get(at).filter(|_| all.len() < PROCESSES_MAX) {
        at += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    all
}

/// Resident memory of them, in bytes; pages they share count once for each. `None` when they have gone.
pub(in crate::slots) fn resident_bytes(root: u32) -> Option<u64> {
    tree(root).into_iter().filter_map(process::resident_bytes).reduce(|a, b| a + b)
}

/// What they have used since their starts. One that ends takes what it used along, which is then work that is not seen.
pub(super) fn usage(root: u32) -> Usage {
    let add = |sum: Usage, one: Usage| Usage {
        processor: sum.processor + one.processor,
        faults: sum.faults + one.faults,
    };
    let nothing = Usage { processor: Duration::ZERO, faults: 0 };
    tree(root).into_iter().filter_map(process::usage).fold(nothing, add)
}

/// Whether a thread of theirs runs, or would if it got a processor or what it reads from disk.
pub(super) fn would_run(root: u32) -> bool {
    tree(root).into_iter().any(process::would_run)
}

/// Whether one of them listens on this port. `None` when the system does not tell.
pub(super) fn listens_on(root: u32, port: u16) -> Option<bool> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).ok());
    let tables: Vec<String> = tables.into_iter().flatten().collect();
    if tables.is_empty() {
        return None;
    }
    let sockets: Vec<String> =
        tables.iter().flat_map(|table| table.lines()).filter_map(|line| listener(line, port)).collect();
    let holds = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|to| is_one_of(&to, &sockets)))
    };
    Some(tree(root).into_iter().any(holds))
}

fn is_one_of(link: &Path, sockets: &[String]) -> bool {
    sockets.iter().any(|socket| link.as_os_str() == socket.as_str())
}

/// The name of the socket that a line of `/proc/net/tcp` says listens on the port.
fn listener(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (_, number) = local.rsplit_once(':')?;
    let is_it = *state == LISTENS && u16::from_str_radix(number, 16) == Ok(port);
    is_it.then(|| format!("socket:[{inode}]"))
}

#[cfg(test)]
mod tests;
