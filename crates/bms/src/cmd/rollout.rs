//! Commands about which version takes a model's traffic: `bms deploy`, `bms rollout`, `bms rollback`.

use bms_wire::Result;
use bms_wire::api::{
    ChangeScale, EvaluationGate, NewRollout, Rollout, RolloutOrder, RolloutPlan, SetDeployment, SlotNeeds,
};
use clap::{Args, Subcommand, ValueEnum};

use super::deployments;
use super::lifecycle::PersonOption;
use crate::output::{self, Output};
use crate::unit;

/// How a candidate takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Strategy {
    /// Step by step, on real traffic.
    Canary,
    /// All at once, when it is loaded and warm.
    BlueGreen,
    /// It answers copies until its answers are known to agree, then all at once.
    Shadow,
}

/// Options of `bms deploy`.
#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// Model name.
    model: String,
    /// The alias whose version shall serve [default: production].
    #[arg(long, conflicts_with = "candidate")]
    alias: Option<String>,
    /// The engine that runs the model's versions, one of those in the server's engines file; without it this program does.
    #[arg(long, value_name = "NAME", conflicts_with = "candidate")]
    engine: Option<String>,
    /// Begin a rollout of what is deployed to this version: a number, an alias, or `latest`.
    #[arg(long, value_name = "VERSION")]
    candidate: Option<String>,
    #[command(flatten)]
    scale: ScaleOptions,
    #[command(flatten)]
    rollout: RolloutOptions,
    #[command(flatten)]
    person: PersonOption,
}

/// How many slots there are on each server, and what one needs. What is not said stays as it was.
#[derive(Debug, Args)]
#[group(conflicts_with = "candidate")]
struct ScaleOptions {
    /// Slots at least [at first: 1]; with 0 the last one goes when nobody asks for a while, and the next request starts one.
    #[arg(long, value_name = "N")]
    min_slots: Option<u32>,
    /// Slots at most [at first: 1]: more than the least as the load asks for.
    #[arg(long, value_name = "N")]
    max_slots: Option<u32>,
    /// Time without a request after which the last slot goes, with `--min-slots 0`: seconds, or with a unit such as `10m`
    /// [at first: 10m].
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    idle: Option<u64>,
    /// Requests one slot shall have at a time, waiting ones included [at first: 8].
    #[arg(long, value_name = "REQUESTS")]
    target_concurrency: Option<f64>,
    /// Milliseconds a request may wait before it is worked on; 0 for no such target [at first: 0].
    #[arg(long, value_name = "MS")]
    target_queue_ms: Option<u64>,
    /// Tokens one slot of a language model shall read and write in a second; 0 for no such target [at first: 0].
    #[arg(long, value_name = "TOKENS")]
    target_tokens: Option<f64>,
    /// Processors of one slot: it is started with so many threads, and takes so many of a worker; 0 for none in particular, as
    /// at first: it has the threads that `bms up` or `bms node join` say, and counts as one.
    #[arg(long, value_name = "N")]
    slot_cores: Option<u64>,
    /// Memory that is kept for one slot at least, such as 8GiB; 0 for none in particular, as at first: what its files and
    /// other slots of it say.
    #[arg(long, value_name = "SIZE", value_parser = unit::bytes)]
    slot_memory: Option<u64>,
}

impl ScaleOptions {
    fn needs(&self) -> Option<SlotNeeds> {
        let needs = SlotNeeds { cores: self.slot_cores, memory_bytes: self.slot_memory };
        (!needs.is_empty()).then_some(needs)
    }

    fn change(&self) -> Option<ChangeScale> {
        let change = ChangeScale {
            min_slots: self.min_slots,
            max_slots: self.max_slots,
            idle_seconds: self.idle,
            target_concurrency: self.target_concurrency,
            target_queue_ms: self.target_queue_ms,
            target_tokens: self.target_tokens,
        };
        (change != ChangeScale::default()).then_some(change)
    }
}

/// Seconds, or a number with its unit.
fn seconds(text: &str) -> std::result::Result<u64, String> {
    let seconds = unit::whole(text, &unit::TIMES[..3], 1);
    seconds.ok_or_else(|| "expected seconds, or a time such as 90s, 10m or 2h".to_owned())
}

/// How a rollout goes.
#[derive(Debug, Args)]
struct RolloutOptions {
    /// How the candidate takes over.
    #[arg(long, value_enum, default_value = "canary", requires = "candidate")]
    strategy: Strategy,
    /// Percent of the traffic the candidate takes, step by step; 100 promotes it [default: 5,25,50,100].
    #[arg(long, value_delimiter = ',', value_name = "PERCENT", requires = "candidate")]
    steps: Option<Vec<f64>>,
    /// Seconds a step takes at least.
    #[arg(long, value_name = "SECONDS", requires = "candidate")]
    step_time: Option<u64>,
    /// Requests the candidate has to answer in a step before it is judged good.
    #[arg(long, value_name = "N", requires = "candidate")]
    min_requests: Option<u64>,
    /// Stay at the first step until `bms rollout` says otherwise.
    #[arg(long, requires = "candidate")]
    manual: bool,
    /// What keeps a caller on one side: caller, request, header:NAME or none.
    #[arg(long, value_name = "BY", requires = "candidate")]
    sticky: Option<String>,
    /// How much larger the candidate's share of errors may be.
    #[arg(long, value_name = "SHARE", requires = "candidate")]
    max_error_increase: Option<f64>,
    /// How much longer the candidate's 95th and 99th percentile may take, as a share.
    #[arg(long, value_name = "SHARE", requires = "candidate")]
    max_latency_increase: Option<f64>,
    /// Percent of the stable version's requests of which the candidate answers a copy.
    #[arg(long, value_name = "PERCENT", requires = "candidate")]
    shadow: Option<f64>,
    /// The share of compared answers that have to agree.
    #[arg(long, value_name = "SHARE", requires = "candidate")]
    min_agreement: Option<f64>,
    /// How far two numbers of compared answers may lie apart.
    #[arg(long, value_name = "NUMBER", requires = "candidate")]
    tolerance: Option<f64>,
    /// Seconds the replaced version stays loaded.
    #[arg(long, value_name = "SECONDS", requires = "candidate")]
    keep_warm: Option<u64>,
    /// Seconds after which a rollout that was not decided goes back.
    #[arg(long, value_name = "SECONDS", requires = "candidate")]
    give_up: Option<u64>,
    /// Refuse unless this metric is at least the served version's, on the same evaluation data.
    #[arg(long, value_name = "METRIC", requires = "candidate")]
    require: Option<String>,
    /// How much lower the required metric may be.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, requires = "require")]
    max_drop: f64,
}

impl RolloutOptions {
    fn new_rollout(self, candidate: String) -> NewRollout {
        let usual = RolloutPlan::default();
        let (steps, shadow) = match self.strategy {
            Strategy::Canary => (usual.steps, usual.shadow_percent),
            Strategy::BlueGreen => (vec![100.0], 0.0),
            Strategy::Shadow => (vec![0.0, 100.0], 100.0),
        };
        let plan = RolloutPlan {
            steps: self.steps.unwrap_or(steps),
            step_seconds: self.step_time.unwrap_or(usual.step_seconds),
            min_requests: self.min_requests.unwrap_or(usual.min_requests),
            automatic: !self.manual,
            sticky: self.sticky.unwrap_or(usual.sticky),
            max_error_increase: self.max_error_increase.unwrap_or(usual.max_error_increase),
            max_latency_increase: self.max_latency_increase.unwrap_or(usual.max_latency_increase),
            shadow_percent: self.shadow.unwrap_or(shadow),
            min_agreement: self.min_agreement.unwrap_or(usual.min_agreement),
            tolerance: self.tolerance.unwrap_or(usual.tolerance),
            keep_warm_seconds: self.keep_warm.unwrap_or(usual.keep_warm_seconds),
            give_up_seconds: self.give_up.unwrap_or(usual.give_up_seconds),
        };
        let require = self.require.map(|metric| EvaluationGate { metric, max_drop: self.max_drop });
        NewRollout { candidate, require, plan }
    }
}

impl Deploy {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        if let Some(candidate) = self.candidate {
            let rollout = client.begin_rollout(&self.model, &self.rollout.new_rollout(candidate))?;
            let told = format!(
                "version {} of {} is being prepared to take over from {}; `bms rollout status {}` shows how it goes",
                rollout.candidate, rollout.model, rollout.stable, rollout.model
            );
            output.result(told, &rollout);
            return Ok(());
        }
        let alias = self.alias.as_deref().unwrap_or("production");
        let set = SetDeployment {
            alias: alias.to_owned(),
            engine: self.engine.clone(),
            scale: self.scale.change(),
            needs: self.scale.needs(),
        };
        let deployment = client.set_deployment(&self.model, &set)?;
        let version = deployment.version.map_or("none yet".to_owned(), |v| v.to_string());
        let by =
            deployment.engine.as_ref().map(|engine| format!(", by the engine {engine}")).unwrap_or_default();
        let slots = deployments::slots(&deployment.scale);
        let each = match deployments::needs(&deployment.needs) {
            needs if needs.is_empty() => needs,
            needs => format!(", each with {needs}"),
        };
        output.result(
            format_args!(
                "{} serves {} (version {version}{by}) in {slots}{each}",
                deployment.model, deployment.alias
            ),
            &deployment,
        );
        Ok(())
    }
}

/// Options of `bms rollout`.
#[derive(Debug, Args)]
pub(crate) struct RolloutCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show how the last rollout of a model stands, or of all models.
    Status {
        /// Model name.
        model: Option<String>,
    },
    /// Decide nothing for now; traffic stays as it is.
    Pause(Order),
    /// Decide again.
    Resume(Order),
    /// Let the candidate take over now.
    Promote(Order),
    /// Back to the stable version now.
    Abort(Order),
}

#[derive(Debug, Args)]
struct Order {
    /// Model name.
    model: String,
}

impl RolloutCommand {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        let (order, of) = match self.action {
            Action::Status { model: Some(model) } => {
                let rollout = client.rollout(&model)?;
                output.result(table(std::slice::from_ref(&rollout)), &rollout);
                return Ok(());
            }
            Action::Status { model: None } => {
                let rollouts = client.rollouts()?;
                output.result(table(&rollouts), &rollouts);
                return Ok(());
            }
            Action::Pause(of) => (RolloutOrder::Pause, of),
            Action::Resume(of) => (RolloutOrder::Resume, of),
            Action::Promote(of) => (RolloutOrder::Promote, of),
            Action::Abort(of) => (RolloutOrder::Abort, of),
        };
        let rollout = client.order_rollout(&of.model, order)?;
        output
            .result(format_args!("the rollout of {} is {}", rollout.model, rollout.state.as_str()), &rollout);
        Ok(())
    }
}

/// One line for each side of a rollout.
fn table(rollouts: &[Rollout]) -> impl std::fmt::Display {
    let mut table = output::table(&[
        "model", "version", "traffic", "requests", "errors", "p95 ms", "p99 ms", "agree", "state", "why",
    ]);
    for rollout in rollouts {
        let sides = [
            (rollout.stable, 100.0 - rollout.percent, &rollout.stable_side),
            (rollout.candidate, rollout.percent, &rollout.candidate_side),
        ];
        for (number, (version, percent, side)) in sides.into_iter().enumerate() {
            let shadow = &rollout.shadow;
            let is_candidate = number == 1;
            let of_candidate = |text: String| if is_candidate { text } else { String::new() };
            table.add_row([
                rollout.model.clone(),
                version.to_string(),
                format!("{percent} %"),
                side.requests.to_string(),
                side.errors.to_string(),
                format!("{:.1}", side.p95_ms),
                format!("{:.1}", side.p99_ms),
                of_candidate(format!("{} of {}", shadow.agreed, shadow.compared)),
                of_candidate(rollout.state.as_str().to_owned()),
                of_candidate(rollout.reason.clone()),
            ]);
        }
    }
    table
}

/// Options of `bms rollback`.
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Model name.
    model: String,
    #[command(flatten)]
    person: PersonOption,
}

impl Rollback {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let back = self.person.client()?.roll_back(&self.model)?;
        let told = format!("version {} of {} serves, instead of {}", back.version, back.model, back.from);
        output.result(told, &back);
        Ok(())
    }
}
