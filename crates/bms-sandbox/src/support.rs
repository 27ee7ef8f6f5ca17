//! What a machine can enforce.

use serde::Serialize;

/// What this machine can enforce on a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Support {
    /// The version of Landlock's interface; `None` without Landlock.
    pub landlock: Option<u32>,
    /// Whether calls can be filtered.
    pub seccomp: bool,
    /// Whether a watcher can answer, and tell, what a filter does not allow.
    pub notification: bool,
    /// The version of control groups in use: 1 or 2.
    pub cgroup: Option<u8>,
}

impl Support {
    /// Asks the kernel.
    pub fn detect() -> Support {
        crate::system::support()
    }

    /// Whether a process can be confined here, see [`crate::Enforced::is_confined`].
    pub fn confines(&self) -> bool {
        self.landlock.is_some() && self.seccomp
    }

    /// What of Landlock is used here, in words.
    pub fn landlock_parts(&self) -> Vec<&'static str> {
        let parts = [
            (1, "files"),
            (2, "moving files"),
            (3, "truncation"),
            (4, "TCP"),
            (5, "device commands"),
            (6, "signals and abstract sockets"),
        ];
        let version = self.landlock.unwrap_or(0);
        parts.into_iter().filter(|(from, _)| *from <= version).map(|(_, part)| part).collect()
    }
}
