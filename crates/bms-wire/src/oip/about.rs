//! What the protocol's extensions tell of models: statistics, configuration, the repository.
//!
//! Sources: `extension_statistics.md`, `extension_model_configuration.md` and `extension_model_repository.md` in
//! <https://github.com/triton-inference-server/server/tree/main/docs/protocol>.

use serde::{Deserialize, Serialize};

use super::{Datatype, Parameters};

/// `GET /v2/models/stats` and `GET /v2/models/{model}/stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// One entry a loaded version.
    pub model_stats: Vec<ModelStatistics>,
}

/// What one loaded version has done since it was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ModelStatistics {
    /// Model name.
    pub name: String,
    /// Version.
    pub version: String,
    /// When the last request was answered, in milliseconds since 1970; 0 before the first.
    pub last_inference: u64,
    /// Rows answered.
    pub inference_count: u64,
    /// Runs of the graph, each for a batch of rows.
    pub execution_count: u64,
    /// Where the time of requests went.
    pub inference_stats: InferStatistics,
    /// Per size of batch.
    pub batch_stats: Vec<BatchStatistics>,
}

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duration {
    /// Times.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// Where the time of requests went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InferStatistics {
    /// Requests answered, from when the model took them.
    pub success: Duration,
    /// Requests the model failed on.
    pub fail: Duration,
    /// Waiting for a run.
    pub queue: Duration,
    /// Joining rows to a batch.
    pub compute_input: Duration,
    /// Runs.
    pub compute_infer: Duration,
    /// Splitting the answer.
    pub compute_output: Duration,
}

/// Runs with one size of batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatistics {
    /// Rows in the batch.
    pub batch_size: u64,
    /// Joining rows to a batch.
    pub compute_input: Duration,
    /// Runs.
    pub compute_infer: Duration,
    /// Splitting the answer.
    pub compute_output: Duration,
}

/// `GET /v2/models/{model}/config`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Model name.
    pub name: String,
    /// As in the metadata.
    pub platform: String,
    /// What runs it.
    pub backend: String,
    /// Rows of separate requests that are joined; 0 when they are not. The dimensions then leave out the first.
    pub max_batch_size: i32,
    /// Inputs.
    pub input: Vec<ConfigTensor>,
    /// Outputs.
    pub output: Vec<ConfigTensor>,
    /// Where it runs.
    pub instance_group: Vec<InstanceGroup>,
}

/// A tensor in a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigTensor {
    /// Tensor name.
    pub name: String,
    /// `TYPE_` and the type.
    pub data_type: String,
    /// Dimensions; −1 is a free one.
    pub dims: Vec<i64>,
}

/// Processes that hold a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceGroup {
    /// A name.
    pub name: String,
    /// `KIND_CPU`.
    pub kind: String,
    /// How many.
    pub count: i32,
}

/// The name of a datatype in a configuration.
pub fn config_type(datatype: Datatype) -> String {
    match datatype {
        Datatype::Bytes => "TYPE_STRING".to_owned(),
        other => format!("TYPE_{other}"),
    }
}

/// `POST /v2/repository/index`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexRequest {
    /// Only those that answer now.
    #[serde(default)]
    pub ready: bool,
}

/// One version in the answer, which is a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Model name.
    pub name: String,
    /// Version.
    pub version: String,
    /// `READY`, `LOADING`, `UNLOADING` or `UNAVAILABLE`.
    pub state: String,
    /// Why it is not ready.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// `POST /v2/repository/models/{model}/load` and `/unload`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositoryRequest {
    /// What shall be otherwise.
    #[serde(default, skip_serializing_if = "Parameters::is_empty")]
    pub parameters: Parameters,
}
