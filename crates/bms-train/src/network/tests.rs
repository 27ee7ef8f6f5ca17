use super::design::{Architecture, CnnSize, layers};
use super::*;

const INPUT: InputShape = InputShape::Picture { channels: 3, height: 9, width: 10 };

fn network(seed: u64) -> Network {
    let layers = layers(&Architecture::Cnn { size: CnnSize::Medium }, INPUT, 4);
    Network::new(layers, INPUT, seed, &Device::flex().autodiff())
}

#[test]
fn the_seed_decides_every_weight() {
    assert_eq!(network(5).values().unwrap(), network(5).values().unwrap());
    assert_ne!(network(5).values().unwrap(), network(6).values().unwrap());
}

#[test]
fn initial_weights_have_the_variance_that_relu_keeps() {
    // Uniform in ±√(6 / n) has the variance 2 / n; the second convolution reads 24 × 9 values.
    let second = &network(1).values().unwrap()[1].weight.data;
    let variance = second.iter().map(|w| w * w).sum::<f32>() / second.len() as f32;
    assert!((variance * 216.0 / 2.0 - 1.0).abs() < 0.1, "{variance}");
}

#[test]
fn bytes_round_trip_bit_for_bit_and_foreign_ones_are_refused() {
    let bytes = network(5).to_bytes().unwrap();
    let back = network(6).with_bytes(&bytes).unwrap();
    assert_eq!(back.values().unwrap(), network(5).values().unwrap());
    assert!(network(6).with_bytes(&bytes[..bytes.len() / 2]).is_err());
    let other = layers(&Architecture::Mlp { hidden: vec![] }, INPUT, 4);
    assert!(Network::new(other, INPUT, 1, &Device::flex().autodiff()).with_bytes(&bytes).is_err());
}

#[test]
fn dropout_keeps_the_mean_and_happens_only_when_asked_for() {
    let ones = Tensor::<2>::ones([50, 200], &Device::flex());
    let mut rng = stream(1, Purpose::Dropout, 0, 0);
    let dropped = to_vec(drop_values(ones, 0.25, &mut rng)).unwrap();
    let zeros = dropped.iter().filter(|v| **v == 0.0).count() as f32 / dropped.len() as f32;
    assert!((zeros - 0.25).abs() < 0.02, "{zeros}");
    assert!((dropped.iter().sum::<f32>() / dropped.len() as f32 - 1.0).abs() < 0.03);

    let input = Tensor::<2>::ones([2, INPUT.values()], &Device::flex());
    let network = network(3).valid();
    let plain = || to_vec(network.forward(input.clone(), None)).unwrap();
    assert_eq!(plain(), plain());
    let trained =
        to_vec(network.forward(input.clone(), Some(&mut stream(1, Purpose::Dropout, 0, 0)))).unwrap();
    assert_ne!(plain(), trained);
}
