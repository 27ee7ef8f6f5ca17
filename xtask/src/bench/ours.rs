//! Our side: the release binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::Plan;
use super::serve::{Serves, Shape};
use super::work::Work;
use crate::process;

/// A trust policy that admits models nobody has signed.
const POLICY: &str = "schema = 1\nmode = \"development\"\n";

/// The program that is measured.
pub(crate) struct Ours {
    program: PathBuf,
    /// Its home, for the time of the benchmark.
    home: TempDir,
}

/// What the machine can do at best, per second, all threads together.
pub(crate) struct Machine {
    pub(crate) read_bytes: f64,
    pub(crate) f32_operations: f64,
    pub(crate) int8_operations: f64,
    pub(crate) isa: String,
    pub(crate) all: Value,
}

impl Ours {
    /// The given program, or a fresh build.
    pub(crate) fn find(program: Option<PathBuf>) -> Result<Ours> {
        let home = TempDir::new()?;
        std::fs::write(home.path().join("policy.toml"), POLICY)?;
        if let Some(program) = program {
            ensure!(program.is_file(), "there is no program `{}`", program.display());
            return Ok(Ours { program: std::path::absolute(program)?, home });
        }
        process::run(process::cargo().args(["build", "--release", "-p", "bms"]).stdout(Stdio::null()))?;
        let metadata =
            process::output(process::cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: Value = serde_json::from_str(&metadata)?;
        let Some(target) = metadata["target_directory"].as_str() else {
            bail!("`cargo metadata` names no target folder")
        };
        let name = format!("bms{}", std::env::consts::EXE_SUFFIX);
        Ok(Ours { program: Path::new(target).join("release").join(name), home })
    }

    /// The program, told which home is its own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--home").arg(self.home.path());
        command
    }

    /// Runs a benchmark of the program and gives back its JSON.
    pub(crate) fn bench(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = Command::new(&self.program);
        let printed = process::output(command.args(["bench", "--json"]).args(arguments))?;
        let last = printed.lines().rev().find(|line| !line.trim().is_empty());
        serde_json::from_str(last.context("`bms bench` printed nothing")?)
            .context("`bms bench` did not print JSON")
    }

    /// Measures what the machine can do.
    pub(crate) fn machine(&self, threads: usize) -> Result<Machine> {
        let all = self.bench(&["machine", "--threads", &threads.to_string()])?;
        let with_all = all["threads"]
            .as_array()
            .and_then(|counts| counts.iter().find(|count| count["threads"] == threads))
            .context("`bms bench machine` did not measure this number of threads")?;
        let best = |name: &str| {
            with_all[name]["best"].as_f64().with_context(|| format!("`bms bench machine` gave no {name}"))
        };
        Ok(Machine {
            read_bytes: best("read_bytes")?,
            f32_operations: best("f32_operations")?,
            int8_operations: best("int8_operations")?,
            isa: all["isa"].as_str().unwrap_or("unknown").to_owned(),
            all,
        })
    }

    /// What the model is: its vocabulary, and what a token costs.
    pub(crate) fn describe(&self, plan: &Plan) -> Result<Value> {
        Ok(self.llm(plan, "load")?["model"].take())
    }

    /// One run without a server.
    pub(crate) fn direct(&self, plan: &Plan) -> Result<Vec<(Work, f64)>> {
        let wanted: Vec<Work> = plan.works.iter().copied().filter(|work| !work.is_served()).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let only: Vec<&str> = wanted.iter().map(|work| work.name()).collect();
        let value = self.llm(plan, &only.join(","))?;
        let results = wanted.into_iter().map(|work| {
            let name = match work {
                Work::Prompt => "pp512_tps",
                Work::Generate => "tg128_tps",
                _ => "batch16_tps",
            };
            Ok((work, value[name].as_f64().with_context(|| format!("`bms bench llm` gave no {name}"))?))
        });
        results.collect()
    }

    fn llm(&self, plan: &Plan, only: &str) -> Result<Value> {
        let (model, threads) = (plan.model.to_string_lossy(), plan.threads.to_string());
        self.bench(&["llm", &model, "--threads", &threads, "--rounds", "1", "--only", only])
    }
}

impl Serves for Ours {
    fn name(&self) -> &'static str {
        "bms"
    }

    /// One engine serves all users with one set of pages; there is nothing to choose.
    fn slot_choices(&self) -> &'static [usize] {
        &[super::serve::USERS]
    }

    fn start(&self, plan: &Plan, port: u16, shape: Shape) -> Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg(&plan.model).arg("--listen").arg(format!("127.0.0.1:{port}"));
        command.arg("--threads").arg(plan.threads.to_string());
        command.arg("--context").arg(shape.context.to_string());
        command.arg("--sequences").arg(shape.slots.to_string()).arg("--home").arg(self.home.path());
        // Its slots end with it, and it ends with us.
        command.arg("--until-stdin-closes").stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("failed to start `{}`", process::shown(&command)))
    }
}
