//! What the protocol's extensions tell of a loaded model.

use bms_nn::onnx::ValueSpec;
use bms_wire::oip::about::{ConfigTensor, InstanceGroup, ModelConfig, ModelStatistics, config_type};

use super::{datatype, platform};
use crate::Engine;

/// The model's configuration.
pub fn config(engine: &Engine) -> ModelConfig {
    let model = engine.describe();
    let joined = engine.joined_rows_max();
    let tensor = |spec: &ValueSpec| {
        let dims = spec.shape.iter().map(|dim| dim.map_or(-1, |d| d as i64));
        ConfigTensor {
            name: spec.name.clone(),
            data_type: config_type(datatype(spec.dtype)),
            // Of a model whose rows are joined the first dimension counts them, and is left out.
            dims: dims.skip(usize::from(joined != 0)).collect(),
        }
    };
    ModelConfig {
        name: model.name.clone(),
        platform: platform(model),
        backend: model.runtime.as_str().to_owned(),
        max_batch_size: i32::try_from(joined).unwrap_or(i32::MAX),
        input: model.inputs.iter().map(tensor).collect(),
        output: model.outputs.iter().map(tensor).collect(),
        instance_group: vec![InstanceGroup {
            name: model.name.clone(),
            kind: "KIND_CPU".to_owned(),
            count: 1,
        }],
    }
}

/// What the model has done since it was loaded.
pub fn statistics(engine: &Engine, version: Option<String>) -> ModelStatistics {
    let mut statistics = engine.statistics();
    statistics.name = engine.describe().name.clone();
    statistics.version = version.unwrap_or_default();
    statistics
}
