use std::collections::BTreeMap;

use bms_wire::api::{SlotState, WorkerRefusal, WorkerReport, WorkerState};

use super::*;

fn placement(id: &str, worker: Option<&str>, why: &str) -> Placement {
    Placement {
        id: id.to_owned(),
        model: "digits".to_owned(),
        version: 3,
        number: 0,
        worker: worker.map(str::to_owned),
        memory_bytes: 256 << 20,
        cores: worker.map(|_| 2),
        leaving: false,
        why: why.to_owned(),
    }
}

#[test]
fn people_see_what_is_spoken_for_and_which_figure_bounds() {
    let slot = WorkerSlot {
        id: "x".to_owned(),
        model: "digits".to_owned(),
        version: 3,
        state: SlotState::Ready,
        resident_bytes: Some(64 << 20),
        problem: None,
    };
    let report = WorkerReport {
        address: "h:1".to_owned(),
        memory_bytes: 1 << 30,
        memory_free_bytes: 2 << 30,
        cores: 4,
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        until_ms: None,
        draining: false,
        slots: vec![slot],
        refused: vec![WorkerRefusal {
            model: "faces".to_owned(),
            version: 2,
            why: "its key is revoked".to_owned(),
        }],
    };
    let worker =
        Worker { name: "wn7".to_owned(), state: WorkerState::Ready, joined_ms: 0, silent_ms: 400, report };
    let why = "no worker takes it: wn7: 2 of its cores are free, 4 wanted";
    let placements = [placement("x", Some("wn7"), "as asked for"), placement("y", None, why)];
    let said = described(&[worker], &placements);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "wn7 ready h:1 256.0 MiB of 1.0 GiB of memory (2.0 GiB free on its machine) and 2 of 4 cores are spoken for, \
         heard 0.4 s ago zone=a"
    );
    assert_eq!(
        lines[1..],
        [
            "  digits@3 ready, takes 64.0 MiB, reckoned with 256.0 MiB as asked for, 2 cores",
            "  takes no faces@2: its key is revoked",
            "at the server itself",
            "  digits@3: no worker takes it: wn7: 2 of its cores are free, 4 wanted",
        ]
    );
}
