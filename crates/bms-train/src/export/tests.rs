use std::sync::Arc;

use bms_nn::Tensor;
use bms_nn::onnx::{LoadOptions, RuntimeChoice, load, runtimes};
use burn::module::Module;
use burn::tensor::Device;

use super::*;
use crate::fit::logits;
use crate::network::design::{Architecture, CnnSize, InputShape, layers};

/// The graph answers as burn does, on every run-time there is, for every kind of layer and odd sizes.
#[test]
fn the_graph_agrees_with_the_network() {
    let picture = |channels, height, width| InputShape::Picture { channels, height, width };
    let cases = [
        (Architecture::Cnn { size: CnnSize::Tiny }, picture(1, 8, 8)),
        (Architecture::Cnn { size: CnnSize::Large }, picture(1, 28, 28)),
        (Architecture::Cnn { size: CnnSize::Medium }, picture(3, 19, 33)),
        (Architecture::Cnn { size: CnnSize::Small }, picture(1, 5, 3)),
        (Architecture::Mlp { hidden: vec![7, 5] }, picture(3, 4, 4)),
        (Architecture::Mlp { hidden: vec![] }, InputShape::Row { columns: 6 }),
    ];
    for (architecture, input) in cases {
        let network =
            Network::new(layers(&architecture, input, 4), input, 9, &Device::flex().autodiff()).valid();
        let bytes: Arc<[u8]> = to_onnx(&network, "test", 4).unwrap().into();
        for rows in [1, 3] {
            let values: Vec<f32> =
                (0..rows * input.values()).map(|idx| ((idx * 37 % 101) as f32 - 50.0) / 25.0).collect();
            let expected = logits(&network, rows, values.clone()).unwrap();
            for runtime in runtimes().into_iter().filter(|runtime| runtime.available) {
                let options = LoadOptions { runtime: RuntimeChoice::Fixed(runtime.kind), threads: 1 };
                let mut session = load(Arc::clone(&bytes), &options).unwrap();
                assert_eq!(session.inputs()[0].shape[0], None, "the batch is free");
                let shape = std::iter::once(rows).chain(input.dims()).collect();
                let fed = Tensor::f32(shape, values.clone()).unwrap();
                let outputs = session.run(vec![(INPUT.into(), fed)]).unwrap();
                assert_eq!((outputs[0].0.as_str(), outputs[0].1.shape()), (OUTPUT, &[rows, 4][..]));
                let largest = expected.iter().fold(1.0_f32, |most, value| most.max(value.abs()));
                for (a, b) in outputs[0].1.as_f32().unwrap().iter().zip(&expected) {
                    assert!(
                        (a - b).abs() < 1e-4 * largest,
                        "{architecture:?} on {:?}: {a} is not {b}",
                        runtime.kind
                    );
                }
            }
        }
    }
}
