//! `bms deployments` and `bms slots`: what is served, in how many processes, and the memory they take.

use bms_wire::Result;
use bms_wire::api::{Scale, SlotNeeds};
use clap::Args;
use serde_json::json;

use super::registry::ServerOption;
use crate::output::{self, Output};

/// Options of `bms deployments`.
#[derive(Debug, Args)]
pub(crate) struct Deployments {
    #[command(flatten)]
    server: ServerOption,
}

impl Deployments {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let deployments = self.server.client()?.deployments()?;
        let mut table =
            output::table(&["model", "alias", "version", "slots", "each with", "more when", "problem"]);
        for deployment in &deployments {
            table.add_row([
                deployment.model.clone(),
                deployment.alias.clone(),
                deployment.version.map(|version| version.to_string()).unwrap_or_default(),
                slots(&deployment.scale),
                needs(&deployment.needs),
                targets(&deployment.scale),
                deployment.problem.clone().unwrap_or_default(),
            ]);
        }
        output.result(table, &deployments);
        Ok(())
    }
}

/// How many slots, for people.
pub(crate) fn slots(scale: &Scale) -> String {
    let of = |n: u32| format!("{n} slot{}", if n == 1 { "" } else { "s" });
    let range = match (scale.min_slots, scale.max_slots) {
        (min, max) if min == max => of(max),
        (min, max) => format!("{min} to {}", of(max)),
    };
    match scale.min_slots {
        0 => format!("{range}, none after {} s without a request", scale.idle_seconds),
        _ => range,
    }
}

/// What one slot needs, for people; empty when nothing is said.
pub(crate) fn needs(needs: &SlotNeeds) -> String {
    let cores = needs.cores.map(|cores| format!("{cores} core{}", if cores == 1 { "" } else { "s" }));
    let memory = needs.memory_bytes.map(|bytes| format!("{} of memory", output::bytes(bytes)));
    cores.into_iter().chain(memory).collect::<Vec<_>>().join(", ")
}

/// What makes for more slots, for people.
fn targets(scale: &Scale) -> String {
    if scale.max_slots <= scale.min_slots.max(1) {
        return String::new();
    }
    let mut targets = vec![format!("{} requests a slot", scale.target_concurrency)];
    if scale.target_queue_ms != 0 {
        targets.push(format!("{} ms of waiting", scale.target_queue_ms));
    }
    if 0.0 < scale.target_tokens {
        targets.push(format!("{} tokens/s a slot", scale.target_tokens));
    }
    targets.join(", ")
}

/// Options of `bms slots`.
#[derive(Debug, Args)]
pub(crate) struct Slots {
    #[command(flatten)]
    server: ServerOption,
}

impl Slots {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.server.client()?;
        let (slots, memory) = (client.slots()?, client.memory()?);
        let mut table = output::table(&["model", "version", "process", "state", "requests", "now", "memory"]);
        for slot in &slots {
            table.add_row([
                slot.model.clone(),
                slot.version.to_string(),
                slot.pid.map(|pid| pid.to_string()).unwrap_or_default(),
                slot.state.as_str().to_owned(),
                slot.requests.to_string(),
                slot.in_flight.to_string(),
                slot.resident_bytes.map(output::bytes).unwrap_or_default(),
            ]);
        }
        let used = output::bytes(memory.used_bytes);
        let of = match memory.budget_bytes {
            Some(budget) => format!("{used} of {} are spoken for", output::bytes(budget)),
            None => format!("{used} are spoken for, without a bound"),
        };
        output.result(format!("{table}\n{of}"), &json!({ "slots": slots, "memory": memory }));
        Ok(())
    }
}
