//! Open Inference Protocol v2, REST.
//!
//! Source: <https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md>.
//! Extension of ours: an input of datatype `BYTES` on a model whose pipeline takes pictures holds
//! one base64-encoded PNG or JPEG a row; outputs then carry `label` (BYTES) and `probability` (FP32)
//! beside the raw tensor.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Element types of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are the protocol's")]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Fp32,
    Fp64,
    Bytes,
}

/// Free parameters of requests and tensors.
pub type Parameters = Map<String, Value>;

/// `GET /v2`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerMetadata {
    /// Server name.
    pub name: String,
    /// Server version.
    pub version: String,
    /// Protocol extensions.
    pub extensions: Vec<String>,
}

/// `GET /v2/models/{model}[/versions/{version}]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelMetadata {
    /// Model name.
    pub name: String,
    /// Versions that can be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<String>,
    /// What runs it, `onnx_…`.
    pub platform: String,
    /// Input tensors.
    pub inputs: Vec<TensorMetadata>,
    /// Output tensors.
    pub outputs: Vec<TensorMetadata>,
}

/// Name, type and shape of a tensor; −1 is a free dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorMetadata {
    /// Tensor name.
    pub name: String,
    /// Element type.
    pub datatype: Datatype,
    /// Dimensions.
    pub shape: Vec<i64>,
}

/// `POST /v2/models/{model}/infer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferRequest {
    /// Echoed in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Free parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Parameters,
    /// Input tensors.
    pub inputs: Vec<InferTensor>,
    /// Wanted outputs; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outputs: Vec<RequestedOutput>,
}

/// One wanted output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Free parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Parameters,
}

/// A tensor with its data, row-major; `data` may be nested or flat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferTensor {
    /// Tensor name.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<i64>,
    /// Element type.
    pub datatype: Datatype,
    /// Free parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Parameters,
    /// The values.
    pub data: Value,
}

/// The answer to an [`InferRequest`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InferResponse {
    /// Model name.
    pub model_name: String,
    /// Version that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// The request's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Free parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Parameters,
    /// Output tensors.
    pub outputs: Vec<InferTensor>,
}
