//! What the system says of processes and of itself.

/// Peak memory of a process and all that descend from it, in bytes; zero where the system does not tell.
pub(crate) fn peak_bytes(root: u32) -> u64 {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process may end between the two looks.
        let Ok(status) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        processes.push((id, field(&status, "PPid:").unwrap_or(0), field(&status, "VmHWM:").unwrap_or(0)));
    }
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        let parent = u64::from(family[at]);
        family.extend(processes.iter().filter(|(_, of, _)| *of == parent).map(|(id, _, _)| *id));
        at += 1;
    }
    processes.iter().filter(|(id, _, _)| family.contains(id)).map(|(_, _, kib)| kib * 1024).sum()
}

/// The number behind a field's name.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// How many programs wanted to run in the last minute.
pub(crate) fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_owned()
}

/// Resident memory of one process in bytes; zero where the system does not tell.
pub(crate) fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    field(&status, "VmRSS:").unwrap_or(0) * 1024
}

/// The processes another one started.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        field(&status, "PPid:") == Some(u64::from(of))
    };
    ids.filter(is_child).collect()
}
