//! Rollouts: how a model's traffic goes over from one version to another.

use serde::{Deserialize, Serialize};

/// `POST /api/v1/rollouts/{model}`: begins to send traffic of a deployed model to another version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRollout {
    /// The version that shall take over: a number, an alias, or `latest`. It is looked up once.
    pub candidate: String,
    /// The evaluation gate, asked at the beginning and once more before the promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<super::EvaluationGate>,
    /// How it goes.
    #[serde(default)]
    pub plan: RolloutPlan,
}

/// How a rollout goes. The defaults are a canary in four steps that decides by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RolloutPlan {
    /// Percent of the traffic the candidate takes, step by step, never less than before. 100 promotes it.
    pub steps: Vec<f64>,
    /// Seconds a step takes at least.
    pub step_seconds: u64,
    /// Requests the candidate has to answer in a step before it is judged good; of a step of 0 %, answers compared.
    pub min_requests: u64,
    /// Whether it goes on, and back, by itself. Otherwise it stays at its step until told.
    pub automatic: bool,
    /// What keeps a caller on one side: `caller` (the key it authenticates with, else the request), `request` (the same
    /// body), `header:NAME`, or `none`.
    pub sticky: String,
    /// How much larger the candidate's share of errors may be, e.g. 0.02 for two in a hundred.
    pub max_error_increase: f64,
    /// How much longer the candidate's 95th and 99th percentile may take, e.g. 0.5 for half as long again.
    pub max_latency_increase: f64,
    /// Percent of the stable version's requests of which the candidate answers a copy, for comparison.
    pub shadow_percent: f64,
    /// The share of compared answers that have to agree.
    pub min_agreement: f64,
    /// How far two numbers may lie apart and agree: this much, and this share of the larger one.
    pub tolerance: f64,
    /// Seconds the version that was replaced stays loaded.
    pub keep_warm_seconds: u64,
    /// Seconds after which a rollout that was not decided goes back.
    pub give_up_seconds: u64,
}

impl Default for RolloutPlan {
    fn default() -> Self {
        RolloutPlan {
            steps: vec![5.0, 25.0, 50.0, 100.0],
            step_seconds: 60,
            min_requests: 100,
            automatic: true,
            sticky: "caller".to_owned(),
            max_error_increase: 0.02,
            max_latency_increase: 0.5,
            shadow_percent: 0.0,
            min_agreement: 0.95,
            tolerance: 1e-3,
            keep_warm_seconds: 600,
            give_up_seconds: 86_400,
        }
    }
}

/// How a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The candidate is loaded and warmed up; it takes no traffic.
    Preparing,
    /// The candidate takes the step's share.
    Running,
    /// As running, but nothing is decided until it is resumed.
    Paused,
    /// The candidate took over.
    Promoted,
    /// The candidate was found worse.
    RolledBack,
    /// Somebody ended it.
    Aborted,
}

impl RolloutState {
    /// Its name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutState::Preparing => "preparing",
            RolloutState::Running => "running",
            RolloutState::Paused => "paused",
            RolloutState::Promoted => "promoted",
            RolloutState::RolledBack => "rolled_back",
            RolloutState::Aborted => "aborted",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<RolloutState> {
        use RolloutState::*;
        [Preparing, Running, Paused, Promoted, RolledBack, Aborted].into_iter().find(|s| s.as_str() == name)
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        matches!(self, RolloutState::Promoted | RolloutState::RolledBack | RolloutState::Aborted)
    }
}

/// What one side did since the step began.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RolloutSide {
    /// Requests answered.
    pub requests: u64,
    /// Those answered with an error.
    pub errors: u64,
    /// Milliseconds 95 of 100 of the others took at most; 0 without any.
    pub p95_ms: f64,
    /// Milliseconds 99 of 100 took at most.
    pub p99_ms: f64,
}

/// What came of the copies of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutShadow {
    /// Answers compared.
    pub compared: u64,
    /// Those that agreed.
    pub agreed: u64,
    /// Copies that were not sent, because too many waited or they were too large or streams.
    pub dropped: u64,
}

/// A rollout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Its number.
    pub id: u64,
    /// Model name.
    pub model: String,
    /// The alias the deployment follows, which moves at the end.
    pub alias: String,
    /// The version that served when it began.
    pub stable: u64,
    /// The version that shall take over.
    pub candidate: u64,
    /// How it stands.
    pub state: RolloutState,
    /// The step, from 0.
    pub step: u64,
    /// Percent of the traffic the candidate takes now.
    pub percent: f64,
    /// Why it stands as it does.
    pub reason: String,
    /// How it goes.
    pub plan: RolloutPlan,
    /// The evaluation gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require: Option<super::EvaluationGate>,
    /// Milliseconds since 1970, by the database's clock, at which it began.
    pub created_ms: i64,
    /// At which the step began.
    pub step_ms: i64,
    /// At which it ended, if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<i64>,
    /// Counts its changes.
    pub revision: u64,
    /// The stable version in this step.
    #[serde(default)]
    pub stable_side: RolloutSide,
    /// The candidate in this step.
    #[serde(default)]
    pub candidate_side: RolloutSide,
    /// Copies in this step.
    #[serde(default)]
    pub shadow: RolloutShadow,
}

/// What somebody wants of a rollout: `POST /api/v1/rollouts/{model}/{order}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutOrder {
    /// Decide nothing for now; traffic stays as it is.
    Pause,
    /// Decide again.
    Resume,
    /// Let the candidate take over now.
    Promote,
    /// Back to the stable version now.
    Abort,
}

impl RolloutOrder {
    /// Its name in the path.
    pub fn as_str(self) -> &'static str {
        match self {
            RolloutOrder::Pause => "pause",
            RolloutOrder::Resume => "resume",
            RolloutOrder::Promote => "promote",
            RolloutOrder::Abort => "abort",
        }
    }

    /// The order of this name.
    pub fn parse(name: &str) -> Option<RolloutOrder> {
        use RolloutOrder::*;
        [Pause, Resume, Promote, Abort].into_iter().find(|order| order.as_str() == name)
    }
}

/// What `POST /api/v1/deployments/{model}/rollback` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    /// Model name.
    pub model: String,
    /// The version that serves from now on.
    pub version: u64,
    /// The version that served, or was about to.
    pub from: u64,
}
