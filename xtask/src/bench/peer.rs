//! The other side: llama.cpp's own programs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::Plan;
use super::serve::{Serves, Shape};
use super::work::Work;
use crate::process;

/// A folder with `llama-bench`, `llama-batched-bench` and `llama-server`.
pub(crate) struct LlamaCpp {
    dir: PathBuf,
}

impl LlamaCpp {
    /// The folder, when it holds what is needed.
    pub(crate) fn find(dir: &Path) -> Result<LlamaCpp> {
        for name in ["llama-bench", "llama-batched-bench", "llama-server"] {
            ensure!(dir.join(name).is_file(), "there is no `{name}` in `{}`", dir.display());
        }
        Ok(LlamaCpp { dir: std::path::absolute(dir)? })
    }

    /// A program of the folder. Its threads keep their cores, which is faster than llama.cpp's default.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.dir.join(name));
        command.env("OMP_PROC_BIND", "true").env("OMP_PLACES", "cores");
        command
    }

    /// One run without a server.
    pub(crate) fn direct(&self, plan: &Plan) -> Result<Vec<(Work, f64)>> {
        let has = |work| plan.works.contains(&work);
        let mut results = Vec::new();
        if has(Work::Prompt) || has(Work::Generate) {
            let prompt = if has(Work::Prompt) { "512" } else { "0" };
            let generate = if has(Work::Generate) { "128" } else { "0" };
            let mut command = self.program("llama-bench");
            command.arg("-m").arg(&plan.model).args(["-p", prompt, "-n", generate, "-r", "1", "-o", "json"]);
            let printed = process::output(command.arg("-t").arg(plan.threads.to_string()))?;
            results.extend(read_bench(&printed)?);
        }
        if has(Work::Batch) {
            let mut command = self.program("llama-batched-bench");
            command.arg("-m").arg(&plan.model).arg("-t").arg(plan.threads.to_string());
            command
                .args(["-c", "2048", "-b", "2048", "-ub", "512", "-npp", "64", "-ntg", "32", "-npl", "16"]);
            let printed = process::output(command.args(["--output-format", "jsonl"]))?;
            results.push((Work::Batch, read_batched(&printed)?));
        }
        Ok(results)
    }
}

/// Reads what `llama-bench -o json` prints.
fn read_bench(printed: &str) -> Result<Vec<(Work, f64)>> {
    let tests: Vec<Value> = serde_json::from_str(printed).context("`llama-bench` did not print JSON")?;
    let read = |test: &Value| {
        let work = if test["n_gen"] == 0 { Work::Prompt } else { Work::Generate };
        Ok((work, test["avg_ts"].as_f64().context("`llama-bench` gave no speed")?))
    };
    tests.iter().map(read).collect()
}

/// Reads the decode speed from what `llama-batched-bench --output-format jsonl` prints, among other lines.
fn read_batched(printed: &str) -> Result<f64> {
    let mut objects = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    objects.find_map(|object| object["speed_tg"].as_f64()).context("`llama-batched-bench` printed no speed")
}

impl Serves for LlamaCpp {
    fn name(&self) -> &'static str {
        "llama.cpp"
    }

    fn slot_choices(&self) -> &'static [usize] {
        &[4, 8, 16]
    }

    fn start(&self, plan: &Plan, port: u16, shape: Shape) -> Result<Child> {
        let mut command = self.program("llama-server");
        command.arg("-m").arg(&plan.model).arg("-t").arg(plan.threads.to_string());
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.arg("-np").arg(shape.slots.to_string());
        command.arg("-c").arg((shape.slots * shape.context).to_string());
        command.args(["-b", "2048", "-ub", "512"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))
    }
}

#[cfg(test)]
mod tests;
