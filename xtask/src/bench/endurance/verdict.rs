//! What the run found, and whether it holds.

use std::fmt::Write as _;

use anyhow::Result;
use bms_wire::api::{AuditEvent, RolloutState};
use serde_json::{Value, json};

use super::RETRIES;
use super::load::Heard;
use super::scene::{Scene, TENSORS};
use super::streams::{Seen, Streams};
use super::trouble::Told;
use super::writes::{Done, Writes};

pub(crate) struct Verdict {
    minutes: usize,
    pub(crate) requests: Vec<Heard>,
    pub(crate) streams: Seen,
    writes: Done,
    missing: Vec<String>,
    decided: Result<(), String>,
    pub(crate) trouble: Told,
}

impl Verdict {
    /// Looks at everything once there is peace again.
    pub(crate) fn of(
        scene: &Scene,
        minutes: usize,
        requests: Vec<Heard>,
        streams: &Streams,
        writes: &Writes,
        trouble: &Told,
    ) -> Result<Verdict> {
        let decided = match &trouble.rollout {
            Some(rollout) if rollout.state == RolloutState::Promoted => {
                decided_once(&audit(scene)?).map_err(|why| format!("the audit log says that {why}"))
            }
            Some(rollout) => Err(format!("the rollout is {}: {}", rollout.state.as_str(), rollout.reason)),
            None => Err("there was no rollout".to_owned()),
        };
        Ok(Verdict {
            minutes,
            requests,
            streams: streams.seen(),
            writes: writes.done(),
            missing: writes.missing(scene)?,
            decided,
            trouble: trouble.clone(),
        })
    }

    /// Requests that were not answered although they were sent again as often as a client does.
    fn unanswered(&self) -> u64 {
        self.requests
            .iter()
            .map(|heard| count(&heard.report["refused"]) + count(&heard.report["failed"]))
            .sum()
    }

    /// What does not hold.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut none = |count: u64, what: &str| {
            if count != 0 {
                problems.push(format!("{count} {what}"));
            }
        };
        none(self.unanswered(), "requests were left without an answer");
        none(self.streams.other, "streams said something else than without trouble");
        none(self.streams.failed.values().sum(), "streams broke off although their replica lived");
        none(self.writes.given_up.values().sum(), "writes could not be done");
        none(self.missing.len() as u64, "acknowledged writes are lost");
        if self.requests.iter().any(|heard| heard.report["answered"] == 0) || self.streams.same == 0 {
            problems.push("a kind of request was never answered".to_owned());
        }
        if let Err(why) = &self.decided {
            problems.push(why.clone());
        }
        problems
    }

    pub(crate) fn holds(&self) -> bool {
        self.problems().is_empty()
    }

    pub(crate) fn json(&self) -> Value {
        let requests = self.requests.iter().map(|heard| {
            let report = &heard.report;
            json!({
                "kind": heard.kind, "answered": report["answered"], "refused": report["refused"],
                "failed": report["failed"], "moved": report["moved"], "sent_again": report["sent_again"],
                "sent_most": report["sent_most"], "latency_ms": report["latency_ms"], "course": report["course"],
            })
        });
        let resident = self.trouble.resident.iter().map(|(at, bytes)| json!([at, bytes]));
        json!({
            "holds": self.holds(), "problems": self.problems(), "minutes": self.minutes,
            "retries": RETRIES, "requests": requests.collect::<Vec<_>>(), "requests_unanswered": self.unanswered(),
            "streams": {
                "whole": self.streams.same, "different": self.streams.other, "moved": self.streams.moved,
                "ended_with_their_replica": self.streams.ended_with_their_replica,
                "failed": self.streams.failed, "longest_silence_s": self.streams.longest_silence,
            },
            "writes": {
                "acknowledged": self.writes.counts().into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                "lost": self.missing, "tried_again": self.writes.tried_again, "given_up": self.writes.given_up,
                "longest_s": self.writes.longest.as_secs_f64(),
            },
            "slots_killed": self.trouble.slots_killed, "counted": self.trouble.counted,
            "events": self.trouble.events, "resident_bytes": resident.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} min; a request is sent again {RETRIES} times at most\n\n", self.minutes);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<18} {:>9} {:>8} {:>7} {:>6} {:>10} {:>9} {:>9} {:>11}",
            "requests",
            "answered",
            "refused",
            "failed",
            "moved",
            "sent most",
            "p50 ms",
            "p99 ms",
            "longest ms"
        );
        for Heard { kind, report } in &self.requests {
            let ms = |name: &str| report["latency_ms"][name].as_f64().unwrap_or_default();
            let _ = writeln!(
                text,
                "{kind:<18} {:>9} {:>8} {:>7} {:>6} {:>10} {:>9.1} {:>9.1} {:>11.1}",
                report["answered"],
                count(&report["refused"]),
                count(&report["failed"]),
                report["moved"],
                report["sent_most"],
                ms("p50"),
                ms("p99"),
                ms("max"),
            );
            for what in ["refused", "failed"].iter().filter(|what| 0 < count(&report[**what])) {
                let _ = writeln!(text, "    {what}: {}", report[*what]);
            }
        }
        let streams = &self.streams;
        let silence = streams.longest_silence.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "\nstreams: {} whole and the same, {} different, {} failed; {} were moved before they began, {} ended with \
             their replica and were asked for once more; longest silence {silence:.1} s",
            streams.same,
            streams.other,
            streams.failed.values().sum::<u64>(),
            streams.moved,
            streams.ended_with_their_replica,
        );
        for (why, count) in &streams.failed {
            let _ = writeln!(text, "    {count} {why}");
        }
        self.write_rest(&mut text);
        text
    }

    fn write_rest(&self, text: &mut String) {
        let counts = self.writes.counts().map(|(what, count)| format!("{count} of {what}")).join(", ");
        let _ = writeln!(
            text,
            "acknowledged writes: {counts}; {} lost, {} could not be done; the longest took {:.1} s",
            self.missing.len(),
            self.writes.given_up.values().sum::<u64>(),
            self.writes.longest.as_secs_f64()
        );
        self.missing.iter().for_each(|what| {
            let _ = writeln!(text, "    lost: {what}");
        });
        for (why, count) in &self.writes.tried_again {
            let _ = writeln!(text, "    {count} tried again: {why}");
        }
        let killed: u64 = self.trouble.slots_killed.values().sum();
        let _ = writeln!(text, "{killed} slots killed: {:?}", self.trouble.slots_killed);
        for (counter, count) in &self.trouble.counted {
            let _ = writeln!(text, "{counter}: {count}");
        }
        let _ = match self.problems() {
            problems if problems.is_empty() => writeln!(text, "\nIt holds."),
            problems => writeln!(text, "\nIt does not hold:\n  {}", problems.join("\n  ")),
        };
    }
}

/// The sum of an object's numbers.
fn count(numbers: &Value) -> u64 {
    numbers.as_object().map_or(0, |numbers| numbers.values().filter_map(Value::as_u64).sum())
}

/// All of the audit log.
fn audit(scene: &Scene) -> Result<Vec<AuditEvent>> {
    let client = scene.replicas[0].client()?;
    let mut events: Vec<AuditEvent> = Vec::new();
    loop {
        let page = client.audit(events.last().map_or(0, |event| event.sequence))?;
        if page.is_empty() {
            return Ok(events);
        }
        events.extend(page);
    }
}

/// Whether every decision of the rollout was made once, and none by a replica that another had followed as leader.
pub(super) fn decided_once(events: &[AuditEvent]) -> Result<(), String> {
    let of_rollout = events.iter().filter(|e| e.subject == TENSORS && e.action.starts_with("rollout."));
    let (mut step, mut token, mut ended) = (None, 0, false);
    for event in of_rollout.filter(|event| event.action != "rollout.begun") {
        if ended {
            return Err(format!("`{}` came after the end", event.action));
        }
        let under = event.details["under"]["token"].as_u64().unwrap_or(0);
        if under < token {
            return Err(format!("token {under} decided after token {token}"));
        }
        token = under;
        match event.action.as_str() {
            "rollout.step" => {
                let to = event.details["step"].as_u64();
                if to <= step {
                    return Err(format!("step {to:?} came after step {step:?}"));
                }
                step = to;
            }
            _ => ended = true,
        }
    }
    if ended { Ok(()) } else { Err("no end was decided".to_owned()) }
}
