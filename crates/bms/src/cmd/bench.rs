//! `bms bench`: how fast models, servers and this machine are.

mod autoscaler;
mod cost;
mod drive;
mod llm;
mod machine;
mod model;
mod perplexity;
mod seal;
mod serve;

use bms_kernels::Isa;
use bms_wire::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::serve::isa;
use crate::home::Home;
use crate::output::Output;

/// Options of `bms bench`.
#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Simulate load and the slots it gets: how long requests wait, how often slots come and go. Nothing is started.
    Autoscaler(autoscaler::Autoscaler),
    /// Measure a language model: reading of a prompt, single and batched generation, loading, memory.
    Llm(llm::Llm),
    /// Measure the machine: memory bandwidth and peak arithmetic, which bound every model's speed.
    Machine(machine::Machine),
    /// Measure a language model's perplexity on a text.
    Perplexity(perplexity::Perplexity),
    /// Measure the cipher of sealed bundles, in bytes per second of processor time.
    Seal(seal::Seal),
    /// Ask a server, and measure how long its answers take.
    Serve(Box<serve::Serve>),
}

impl Bench {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        match self.what {
            What::Autoscaler(autoscaler) => autoscaler.run(output),
            What::Llm(llm) => llm.run(output),
            What::Machine(machine) => machine.run(output),
            What::Perplexity(perplexity) => perplexity.run(output),
            What::Seal(seal) => seal.run(output),
            What::Serve(serve) => serve.run(home, output),
        }
    }
}

/// What the maths runs on.
#[derive(Clone, Debug, Args)]
struct ComputeOptions {
    /// Threads [default: one a core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Instruction set, such as `avx2` or `neon`; `scalar` is the plain one [default: the best this machine has].
    #[arg(long, value_name = "NAME", value_parser = isa)]
    isa: Option<Isa>,
}

impl ComputeOptions {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    fn isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::best)
    }
}

/// Several measurements of one thing.
#[derive(Clone, Debug, Default)]
struct Samples(Vec<f64>);

impl Samples {
    /// The middle one, between the two middle ones of an even number; `None` without any.
    fn median(&self) -> Option<f64> {
        let mut values = self.0.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get(values.len().checked_sub(1)? / 2)?, values.get(values.len() / 2)?);
        Some((low + high) / 2.0)
    }

    fn range(&self) -> Option<(f64, f64)> {
        let lowest = self.0.iter().copied().min_by(f64::total_cmp)?;
        Some((lowest, self.0.iter().copied().max_by(f64::total_cmp)?))
    }

    fn json(&self) -> Value {
        match (self.median(), self.range()) {
            (Some(median), Some((low, high))) => json!({"median": median, "min": low, "max": high}),
            _ => Value::Null,
        }
    }

    /// `median (lowest..highest)`.
    fn text(&self) -> String {
        match (self.median(), self.range()) {
            (Some(median), Some((low, high))) => format!("{median:.1} ({low:.1}..{high:.1})"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
