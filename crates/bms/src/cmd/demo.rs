//! `bms demo`.

use std::path::PathBuf;

use bms_wire::Result;
use clap::Args;

use crate::output::Output;

/// Options of `bms demo`.
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// End after the summary instead of leaving server and dashboard running.
    #[arg(long)]
    pub(crate) once: bool,
    /// Where to keep what is made [default: a temporary folder, removed at the end].
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// Port of the server and dashboard; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
}

impl Demo {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        crate::demo::run(&self, output)
    }
}
