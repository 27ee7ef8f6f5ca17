use bms_wire::{ImageInput, TableInput};

use super::*;

fn description(preprocess: Preprocess) -> Description {
    Description {
        name: "m".into(),
        digest: String::new(),
        task: String::new(),
        precision: "fp32".into(),
        runtime: RuntimeKind::Rten,
        measured: vec![],
        inputs: vec![],
        outputs: vec![],
        pipeline: Pipeline { preprocess, postprocess: Postprocess::Tensor {} },
        size_bytes: 0,
    }
}

fn pictures(side: u32) -> Description {
    description(Preprocess::Image(ImageInput {
        width: side,
        height: side,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
    }))
}

/// A batch over the largest tensor would be refused as a whole and run row by row, always.
#[test]
fn a_batch_never_exceeds_the_largest_tensor() {
    for side in [8, 224, 512, 1024] {
        let most = pictures(side).rows_max();
        let values = most * 3 * (side * side) as usize;
        assert!(values <= limits::TENSOR_VALUES_MAX, "{most} pictures of {side}");
        assert!((1..=limits::BATCH_ROWS_MAX).contains(&most));
    }
    assert_eq!(pictures(224).rows_max(), limits::BATCH_ROWS_MAX);
    assert_eq!(pictures(512).rows_max(), 42);
    assert_eq!(pictures(16_384).rows_max(), 1, "one row is always tried");
    let table = TableInput { columns: vec!["a".into()], mean: vec![0.0], std: vec![1.0] };
    assert_eq!(description(Preprocess::Table(table)).rows_max(), limits::BATCH_ROWS_MAX);
}
