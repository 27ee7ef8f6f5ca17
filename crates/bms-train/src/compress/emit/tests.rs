use super::*;

fn layer(kind: Kind, dims: &[i64], weights: &[f32], channels: usize) -> Layer {
    Layer {
        node_idx: 0,
        name: "layer".into(),
        kind,
        input: "x".into(),
        output: "y".into(),
        dims: dims.to_vec(),
        weights: weights.to_vec(),
        bias: vec![0.0; channels],
    }
}

#[test]
fn weights_keep_seven_bits_and_come_back_within_half_a_step() {
    let values: Vec<f32> =
        (0..64).map(|idx| ((idx * 29 % 64) as f32 - 31.5) * if idx % 2 == 0 { 0.01 } else { 3.0 }).collect();
    let layer = layer(Kind::Matrix, &[32, 2], &values, 2);
    let weights = quantise(&layer, &[f32::MIN_POSITIVE; 2]);
    assert!(weights.values.iter().all(|value| (-63..=63).contains(value)));
    assert!(weights.scales[0] * 100.0 < weights.scales[1], "each channel has a scale of its own");
    let squares = values.iter().zip(&weights.values).enumerate().map(|(idx, (value, byte))| {
        let scale = weights.scales[idx % 2];
        ((value - f32::from(*byte) * scale) / scale).powi(2)
    });
    // Rounding alone has a mean square of 1/12 step; clipping was chosen, so it made things no worse.
    assert!(squares.sum::<f32>() / 64.0 < 0.1);
}

#[test]
fn a_channel_of_zeros_stays_zero_and_its_bias_fits() {
    let layer = layer(Kind::Conv, &[2, 1, 1, 1], &[0.0, 1.0], 2);
    let node = NodeProto::new("Conv", "c", &["x", "w"], &["y"]);
    let mut emitter = Emitter::new(&GraphProto::default());
    emitter.layer(&layer, &node, Affine { scale: 1e-3, zero: 7 }, &[1234.5, -2.0], "y");
    let constant = |name: &str| emitter.constants.iter().find(|c| c.name() == name).unwrap();
    let raw = constant("int8_y_bias").raw_data.clone().unwrap();
    let bias: Vec<i32> = raw.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect();
    let steps = constant("int8_y_bias_scale").to_f32().unwrap();
    for (steps_of, (scale, expected)) in bias.iter().zip(steps.iter().zip([1234.5, -2.0])) {
        let value = *steps_of as f32 * scale;
        assert!((value - expected).abs() < 1e-3 * expected.abs(), "{value} is not {expected}");
    }
    assert_eq!(constant("int8_y_weight").raw_data.as_deref(), Some(&[0, 63][..]));
}

#[test]
fn names_never_collide_with_the_graphs() {
    let taken = NodeProto::new("Relu", "int8_relu", &["x"], &["y"]);
    let emitter = Emitter::new(&GraphProto { node: vec![taken], ..GraphProto::default() });
    assert_eq!(emitter.name("y", "bytes"), "int8__y_bytes");
}
