//! `bms bench seal`: the cipher of sealed bundles.

use std::time::Instant;

use bms_bundle::seal::Trial;
use bms_wire::Result;
use clap::Args;
use serde_json::json;

use crate::output::{self, Output};
use crate::processor::processor_time;

/// Options of `bms bench seal`.
#[derive(Debug, Args)]
pub(crate) struct Seal {
    /// Size of the file that is sealed and opened, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=16_384))]
    size: u32,
    /// Seconds of processor time for each measurement.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
}

/// Bytes a second.
#[derive(Clone, Copy)]
struct Rate {
    processor: f64,
    wall: f64,
}

impl Seal {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let trial = Trial::new(self.size as usize * (1 << 20))?;
        let decipher = self.rate(&trial, || trial.decipher())?;
        let load = self.rate(&trial, || trial.load())?;
        let encipher = self.rate(&trial, || trial.seal())?;
        let open = self.rate(&trial, || trial.open())?;
        let mut table = output::table(&["work", "per core", "by the clock"]);
        let rows = [
            ("decipher chunks into one place", decipher),
            ("decipher a file into its memory", load),
            ("seal a file", encipher),
            ("open a file into fresh memory", open),
        ];
        for (name, rate) in rows {
            let show = |rate: f64| format!("{}/s", output::bytes(rate as u64));
            table.add_row([name.to_owned(), show(rate.processor), show(rate.wall)]);
        }
        let value = |rate: Rate| json!({"processor": rate.processor, "wall": rate.wall});
        output.result(
            table,
            &json!({
                "decipher": value(decipher),
                "load": value(load),
                "seal": value(encipher),
                "open": value(open),
                "size_mib": self.size,
            }),
        );
        Ok(())
    }

    /// Repeats the work for the time asked for.
    fn rate(&self, trial: &Trial, work: impl Fn() -> Result<()>) -> Result<Rate> {
        work()?;
        let (wall, processor) = (Instant::now(), processor_time());
        let mut bytes = 0.0;
        while (processor_time() - processor).as_secs_f64() < f64::from(self.seconds) {
            work()?;
            bytes += trial.bytes() as f64;
        }
        Ok(Rate {
            processor: bytes / (processor_time() - processor).as_secs_f64(),
            wall: bytes / wall.elapsed().as_secs_f64(),
        })
    }
}
