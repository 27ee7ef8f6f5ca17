//! Workers and their slots, for people.

use std::fmt::Write as _;

use bms_wire::api::{Placement, Worker, WorkerSlot};

use crate::output;

/// Every worker with what is spoken for of it, its slots with what each is reckoned with, and the slots that no worker takes.
pub(super) fn described(workers: &[Worker], placements: &[Placement]) -> String {
    if workers.is_empty() {
        return "no workers; `bms node token create` makes a token to join with".to_owned();
    }
    let mut text = String::new();
    for worker in workers {
        let own: Vec<_> = placements.iter().filter(|p| p.worker.as_ref() == Some(&worker.name)).collect();
        let _ = writeln!(text, "{}", head(worker, &own).trim_end());
        for slot in &worker.report.slots {
            let placed = own.iter().find(|placed| placed.id == slot.id);
            let _ = writeln!(text, "  {}", line(slot, placed.copied()));
        }
        for refusal in &worker.report.refused {
            let _ = writeln!(text, "  takes no {}@{}: {}", refusal.model, refusal.version, refusal.why);
        }
    }
    let at_centre: Vec<_> = placements.iter().filter(|p| p.worker.is_none() && !p.leaving).collect();
    if !at_centre.is_empty() {
        let _ = writeln!(text, "at the server itself");
    }
    for placed in at_centre {
        let _ = writeln!(text, "  {}@{}: {}", placed.model, placed.version, placed.why);
    }
    text.trim_end().to_owned()
}

fn head(worker: &Worker, own: &[&Placement]) -> String {
    let report = &worker.report;
    let labels: Vec<_> = report.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let memory: u64 = own.iter().map(|placed| placed.memory_bytes).sum();
    let cores: u64 = own.iter().map(|placed| placed.cores.unwrap_or(1)).sum();
    let free = match report.memory_free_bytes {
        0 => String::new(),
        free => format!(" ({} free on its machine)", output::bytes(free)),
    };
    format!(
        "{:<20} {:<9} {:<22} {} of {} of memory{free} and {cores} of {} cores are spoken for, heard {:.1} s ago  {}",
        worker.name,
        worker.state.as_str(),
        report.address,
        output::bytes(memory),
        output::bytes(report.memory_bytes),
        report.cores,
        worker.silent_ms as f64 / 1e3,
        labels.join(","),
    )
}

fn line(slot: &WorkerSlot, placed: Option<&Placement>) -> String {
    let mut line = format!("{}@{} {}", slot.model, slot.version, slot.state.as_str());
    if let Some(bytes) = slot.resident_bytes {
        let _ = write!(line, ", takes {}", output::bytes(bytes));
    }
    if let Some(placed) = placed {
        let _ = write!(line, ", reckoned with {}", output::bytes(placed.memory_bytes));
        // A server of the version before says nothing here.
        if !placed.why.is_empty() {
            let _ = write!(line, " {}", placed.why);
        }
        match placed.cores {
            None => {}
            Some(1) => line.push_str(", 1 core"),
            Some(cores) => drop(write!(line, ", {cores} cores")),
        }
    }
    if let Some(why) = &slot.problem {
        let _ = write!(line, ": {why}");
    }
    line
}

#[cfg(test)]
mod tests;
