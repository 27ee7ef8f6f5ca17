//! `bms bench machine`: what the machine can do at best.

use bms_kernels::Pool;
use bms_kernels::probe::{self, Rate, ReadProbe};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::{Value, json};

use super::ComputeOptions;
use crate::output::{self, Output};

/// Bytes that are read: more than the caches of any machine of today hold.
const READ_BYTES: usize = 3 << 29;
/// Times they are read.
const READ_REPETITIONS: usize = 7;
/// Times arithmetic is measured.
const PEAK_REPETITIONS: usize = 9;

/// Options of `bms bench machine`.
#[derive(Debug, Args)]
pub(super) struct Machine {
    #[command(flatten)]
    compute: ComputeOptions,
}

impl Machine {
    pub(super) fn run(self, output: &Output) -> Result<()> {
        let isa = self.compute.isa();
        let memory = ReadProbe::new(READ_BYTES).map_err(|e| {
            Error::new(Code::Unavailable, format!("failed to take {READ_BYTES} bytes: {e}")).because(e)
        })?;
        let mut table = output::table(&["threads", "memory GB/s", "f32 GFLOP/s", "int8 GOP/s"]);
        let mut counts = vec![1, self.compute.threads()];
        counts.dedup();
        let mut measured = Vec::new();
        for threads in counts {
            let pool = Pool::new(threads, isa);
            let read = memory.bandwidth(&pool, READ_REPETITIONS);
            let (f32, int8) =
                (probe::f32_peak(&pool, PEAK_REPETITIONS), probe::int8_peak(&pool, PEAK_REPETITIONS));
            table.add_row([threads.to_string(), text(read), text(f32), text(int8)]);
            measured.push(json!({
                "threads": threads, "read_bytes": value(read), "f32_operations": value(f32),
                "int8_operations": value(int8),
            }));
        }
        let note = format!("{table}\nper second, median and best, with {isa}");
        output.result(note, &json!({"isa": isa.as_str(), "threads": measured}));
        Ok(())
    }
}

fn text(rate: Rate) -> String {
    format!("{:.1}, {:.1}", rate.median / 1e9, rate.best / 1e9)
}

fn value(rate: Rate) -> Value {
    json!({"median": rate.median, "best": rate.best})
}
