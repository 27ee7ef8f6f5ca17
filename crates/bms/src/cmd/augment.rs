//! `bms augment`.

use std::path::{Path, PathBuf};

use bms_data::ImageSet;
use bms_data::augment::{Plan, augment_set};
use bms_wire::{Code, Error, Result};
use clap::Args;
use serde_json::json;

use crate::output::Output;

/// Options of `bms augment`.
#[derive(Debug, Args)]
pub(crate) struct Augment {
    /// The data set: class folders of pictures.
    data: PathBuf,
    /// The data set to write; must not exist yet.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What to do: `digits`, `photos`, or a TOML file with a plan of your own.
    #[arg(long, value_name = "PRESET|FILE", default_value = "photos", value_parser = plan)]
    plan: Plan,
    /// Augmented copies of each picture.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    copies: u32,
    /// Leave the original pictures out.
    #[arg(long)]
    without_originals: bool,
    /// Seed; the same seed gives the same pictures on any number of threads.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Threads [default: all cores].
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// A preset's name, or the path of a TOML file.
pub(crate) fn plan(text: &str) -> std::result::Result<Plan, String> {
    if let Some(plan) = Plan::preset(text) {
        return Ok(plan);
    }
    let toml = std::fs::read_to_string(Path::new(text))
        .map_err(|e| format!("no preset of this name (digits, photos), and no such file: {e}"))?;
    let plan: Plan = toml::from_str(&toml).map_err(|e| e.to_string())?;
    plan.validate().map_err(|e| e.to_string())?;
    Ok(plan)
}

impl Augment {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        if self.out.exists() {
            return Err(Error::new(Code::Conflict, format!("`{}` exists already", self.out.display()))
                .hint("Choose another folder with --out, or remove it first."));
        }
        let set = ImageSet::open(&self.data)?;
        let progress = output.progress("augmenting", set.samples.len() as u64 * u64::from(self.copies));
        let show = |done: usize, _: usize| progress.at(done as u64);
        let mut result = augment_set(&set, &self.plan, self.copies, self.seed, self.threads, &show)?;
        if !self.without_originals {
            result.merge(&set)?;
        }
        progress.note("writing");
        result.save(&self.out)?;
        progress.done();
        let digest = result.digest();
        let text = format!(
            "{} pictures became {} in `{}` (digest {})",
            set.samples.len(),
            result.samples.len(),
            self.out.display(),
            &digest[..12],
        );
        let value = json!({"from": set.samples.len(), "samples": result.samples.len(), "out": self.out,
            "digest": digest, "from_digest": set.digest(), "seed": self.seed});
        output.result(text, &value);
        Ok(())
    }
}
