use super::*;

const DIGIT: InputShape = InputShape::Picture { channels: 1, height: 8, width: 8 };

fn cnn_for(size: CnnSize, channels: usize, height: usize, width: usize) -> Vec<Layer> {
    layers(&Architecture::Cnn { size }, InputShape::Picture { channels, height, width }, 10)
}

/// Follows the shapes through the layers; panics where one does not fit the one before.
fn follow(layers: &[Layer], input: InputShape) -> usize {
    let InputShape::Picture { mut channels, mut height, mut width } = input else { panic!("no picture") };
    let mut flat = None;
    for layer in layers {
        match *layer {
            Layer::Conv { from, to } => {
                assert_eq!(from, channels);
                channels = to;
            }
            Layer::MaxPool => (height, width) = (height / 2, width / 2),
            Layer::Flatten => flat = Some(channels * height * width),
            Layer::Linear { from, to } => {
                assert_eq!(Some(from), flat);
                flat = Some(to);
            }
            Layer::Relu | Layer::Dropout { .. } => {}
        }
    }
    flat.unwrap()
}

#[test]
fn every_size_fits_every_picture() {
    for size in [CnnSize::Tiny, CnnSize::Small, CnnSize::Medium, CnnSize::Large] {
        for (channels, height, width) in
            [(1, 1, 1), (1, 8, 8), (1, 28, 28), (3, 33, 17), (3, 32, 32), (3, 224, 224)]
        {
            let input = InputShape::Picture { channels, height, width };
            assert_eq!(follow(&cnn_for(size, channels, height, width), input), 10, "{size:?} {input:?}");
        }
    }
}

#[test]
fn larger_pictures_are_halved_more_often() {
    let pools = |side| cnn_for(CnnSize::Tiny, 1, side, side).iter().filter(|l| **l == Layer::MaxPool).count();
    assert_eq!([4, 8, 16, 28, 224].map(pools), [0, 1, 2, 2, 5]);
}

#[test]
fn an_edge_network_for_digits_is_small() {
    let weights = |layer: &Layer| match *layer {
        Layer::Conv { from, to } => from * to * 9 + to,
        Layer::Linear { from, to } => from * to + to,
        Layer::Relu | Layer::MaxPool | Layer::Flatten | Layer::Dropout { .. } => 0,
    };
    let count = |size| layers(&Architecture::Cnn { size }, DIGIT, 10).iter().map(weights).sum::<usize>();
    assert_eq!(count(CnnSize::Tiny), 9_802);
    assert!(count(CnnSize::Small) < count(CnnSize::Medium) && count(CnnSize::Medium) < count(CnnSize::Large));
}

#[test]
fn a_multilayer_perceptron_takes_rows_and_flat_pictures() {
    let mlp = Architecture::Mlp { hidden: vec![16] };
    let rows = layers(&mlp, InputShape::Row { columns: 4 }, 3);
    assert_eq!(rows, [Layer::Linear { from: 4, to: 16 }, Layer::Relu, Layer::Linear { from: 16, to: 3 }]);
    assert_eq!(layers(&mlp, DIGIT, 3)[0], Layer::Flatten);
}
