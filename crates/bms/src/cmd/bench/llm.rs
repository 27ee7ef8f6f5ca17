//! `bms bench llm`: the speed of one model on this machine, without a server and without sampling.

use std::collections::BTreeMap;
use std::time::Duration;

use bms_nn::lm::DecoderInfo;
use bms_wire::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::Samples;
use super::cost::Cost;
use super::drive::{self, Driver};
use super::model::ModelOptions;
use crate::output::{self, Output};

/// Options of `bms bench llm`.
#[derive(Debug, Args)]
pub(super) struct Llm {
    #[command(flatten)]
    model: ModelOptions,
    /// Times each work is measured, after one time that does not count.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// What to measure.
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "pp,tg,batch,load")]
    only: Vec<Work>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Work {
    /// A prompt of 512 tokens.
    Pp,
    /// 128 tokens of one sequence.
    Tg,
    /// Tokens of 16 sequences at once.
    Batch,
    /// Loading of the model, which comes first in any case.
    Load,
}

impl Work {
    fn key(self) -> &'static str {
        match self {
            Work::Pp => "pp512_tps",
            Work::Tg => "tg128_tps",
            Work::Batch => "batch16_tps",
            Work::Load => "load_ms",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Work::Pp => "prompt of 512 tokens [tok/s]",
            Work::Tg => "128 tokens, one sequence [tok/s]",
            Work::Batch => "decode, 16 sequences [tok/s]",
            Work::Load => "loading [ms]",
        }
    }
}

impl Llm {
    pub(super) fn run(self, output: &Output) -> Result<()> {
        let opened = self.model.open(output)?;
        let mut loaded = opened.load(&self.model.compute, drive::CACHE_TOKENS)?;
        let info = loaded.decoder.info().clone();
        let cost = match opened.gguf() {
            Some(bytes) => Cost::of_gguf(bytes, &info)?,
            None => Cost::of_info(&info),
        };
        let mut driver = Driver::new(&mut *loaded.decoder);
        let mut measured: BTreeMap<Work, Samples> = BTreeMap::new();
        let works: Vec<Work> =
            [Work::Pp, Work::Tg, Work::Batch].into_iter().filter(|work| self.only.contains(work)).collect();
        let progress = output.progress("measuring", u64::from(self.rounds + 1) * works.len() as u64);
        let mut done = 0;
        for round in 0..=self.rounds {
            for work in &works {
                let speed = match work {
                    Work::Pp => driver.prompt()?,
                    Work::Tg => driver.generate()?,
                    _ => driver.batch()?,
                };
                if 0 < round {
                    measured.entry(*work).or_default().0.push(speed);
                }
                done += 1;
                progress.at(done);
            }
        }
        progress.done();
        self.print(output, &info, cost, &measured, loaded.took);
        Ok(())
    }

    fn print(
        &self,
        output: &Output,
        info: &DecoderInfo,
        cost: Cost,
        measured: &BTreeMap<Work, Samples>,
        load: Duration,
    ) {
        let compute = &self.model.compute;
        let load_ms = load.as_secs_f64() * 1000.0;
        let peak = peak_rss_bytes();
        let mut value = json!({
            "model": cost.json(info), "threads": compute.threads(), "isa": compute.isa().as_str(),
            "rounds": self.rounds, "load_ms": load_ms, "peak_rss_bytes": peak,
        });
        let mut spread = json!({});
        let mut table = output::table(&["what", "median (lowest..highest)"]);
        for (work, samples) in measured {
            value[work.key()] = samples.median().map_or(Value::Null, Value::from);
            spread[work.key()] = samples.json();
            table.add_row([work.title().to_owned(), samples.text()]);
        }
        value["spread"] = spread;
        table.add_row([Work::Load.title().to_owned(), format!("{load_ms:.0}")]);
        if let Some(peak) = peak {
            table.add_row(["peak memory".to_owned(), output::bytes(peak)]);
        }
        let head = format!("{} ({}), {} threads, {}", info.name, info.arch, compute.threads(), compute.isa());
        output.result(format!("{head}\n{table}"), &value);
    }
}

/// The most memory this process has had at once, where the system tells.
fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
