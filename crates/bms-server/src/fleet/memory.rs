//! The memory the slots of one server may take together, and what a version is expected to take of it.

use std::path::Path;

use bms_wire::{Code, Error};

use crate::machine::available_memory;

/// Bytes a process takes without a model.
const PROCESS_BYTES: u64 = 64 << 20;
/// Bytes for keys and values when nobody says how many: those that are never used take none.
const KV_BYTES: u64 = 512 << 20;
/// Of what is available at the start, the share of slots in percent.
const SHARE_PERCENT: u64 = 80;

/// What is known of a version that has not been started yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// The task its model is for.
    pub(crate) task: String,
}

impl About {
    /// What a slot of it is expected to take: its files and a quarter, a process, and `kv_bytes` for a language model.
    pub(crate) fn expected(&self, kv_bytes: Option<u64>) -> u64 {
        let kv = match self.grows() {
            true => kv_bytes.unwrap_or(KV_BYTES),
            false => 0,
        };
        self.bytes.saturating_add(self.bytes / 4).saturating_add(PROCESS_BYTES).saturating_add(kv)
    }

    /// Whether a slot of it takes more and more as it is asked: keys and values of a language model come with its
    /// conversations.
    pub(crate) fn grows(&self) -> bool {
        crate::slots::is_language(&self.task)
    }
}

/// The share of the machine's or the control group's memory that slots take when nobody says how much; `None` where the
/// system does not tell. It counts what is available now.
pub(crate) fn usual_budget() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let available = available_memory()?;
    let group = read(Path::new("/proc/self/cgroup")).and_then(|groups| left_in_group(&groups, read));
    Some(share(available.min(group.unwrap_or(u64::MAX))))
}

fn share(bytes: u64) -> u64 {
    bytes / 100 * SHARE_PERCENT
}

/// What is left of the limit of the control group this process is in, or of one around it; `None` without any.
fn left_in_group(groups: &str, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let number = |path: &Path| read(path)?.trim().parse::<u64>().ok();
    let left = |folder: &Path, most: &str, now: &str| {
        let most = number(&folder.join(most))?;
        Some(most.saturating_sub(number(&folder.join(now)).unwrap_or(0)))
    };
    let of_group = |line: &str| {
        let (root, group, most, now) = match line.strip_prefix("0::/") {
            Some(group) => ("/sys/fs/cgroup", group, "memory.max", "memory.current"),
            None => {
                let (_, rest) = line.split_once(":memory:/")?;
                ("/sys/fs/cgroup/memory", rest, "memory.limit_in_bytes", "memory.usage_in_bytes")
            }
        };
        // In a container the path may be that of the machine outside; then only the root is there.
        let folder = Path::new(root).join(group);
        folder
            .ancestors()
            .take_while(|path| path.starts_with(root))
            .filter_map(|path| left(path, most, now))
            .min()
    };
    groups.lines().filter_map(of_group).min()
}

/// That a version does not fit, as requests and people are told.
pub(super) fn no_room(of: &str, need: u64, used: u64, budget: u64) -> Error {
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    let what = format!(
        "there is no memory for {of}: it takes about {} MiB, {} of {} MiB are in use by slots that are needed",
        mib(need),
        mib(used),
        mib(budget)
    );
    let hint = match budget < need {
        true => "It never fits: give the server more with `bms up --memory`.",
        false => {
            "Send it again after a pause; or give the server more with `bms up --memory`, or let models go when nobody asks: `bms deploy MODEL --min-slots 0`."
        }
    };
    Error::new(Code::Unavailable, what).hint(hint)
}

#[cfg(test)]
mod tests;
