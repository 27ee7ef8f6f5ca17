//! What the kernel enforces on a process from now on.

use serde::{Deserialize, Serialize};

/// What the kernel enforces on this process since it was confined.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enforced {
    /// The version of Landlock's interface in force, which bounds the files; `None` without Landlock.
    /// From 4 on it denies TCP as well, from 6 on abstract Unix sockets and signals.
    pub landlock: Option<u32>,
    /// Calls that are not on the list fail.
    pub filter: bool,
    /// Denied calls are told to a watcher.
    pub watched: bool,
    /// Threads that ran before and are not confined.
    pub bystanders: usize,
}

impl Enforced {
    /// Whether foreign code in this process reaches nothing but what was listed: files are bounded, calls are filtered,
    /// and no thread is left out.
    pub fn is_confined(&self) -> bool {
        self.landlock.is_some() && self.filter && self.bystanders == 0
    }

    /// What is missing for that, in words; empty when nothing is.
    pub fn missing(&self) -> String {
        let mut missing = Vec::new();
        if self.landlock.is_none() {
            missing.push("there is no Landlock, which bounds its files".to_owned());
        }
        if !self.filter {
            missing.push("there is no seccomp, which filters its calls".to_owned());
        }
        if self.bystanders != 0 {
            missing.push(format!("{} of its threads had been running before", self.bystanders));
        }
        missing.join("; ")
    }
}
