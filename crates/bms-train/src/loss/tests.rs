use burn::tensor::Device;

use super::*;

fn tensor(rows: &[[f32; 3]]) -> Tensor<2> {
    let flat = rows.concat();
    Tensor::from_data(TensorData::new(flat, [rows.len(), 3]), &Device::flex().autodiff())
}

fn value(loss: Tensor<1>) -> f32 {
    loss.into_scalar::<f32>()
}

#[test]
fn agrees_with_the_definition() {
    let measured = cross_entropy(tensor(&[[1.0, 2.0, 3.0], [0.5, 0.0, 0.0]]), &[2, 1], 0.0, 2).unwrap();
    // -ln softmax: row 0 ln(1 + e^-1 + e^-2), row 1 ln(e^0.5 + 2).
    let expected = (0.407_605_96_f32 + 1.294_361_3) / 2.0;
    assert!((value(measured.loss) - expected).abs() < 1e-5);
    assert_eq!(measured.hits, 1);
}

#[test]
fn smoothing_moves_part_of_the_target_to_every_label() {
    let logits = [[1.0, 2.0, 3.0]];
    let plain = |target| value(cross_entropy(tensor(&logits), &[target], 0.0, 1).unwrap().loss);
    let smooth = value(cross_entropy(tensor(&logits), &[2], 0.3, 1).unwrap().loss);
    let expected = 0.7 * plain(2) + 0.1 * (plain(0) + plain(1) + plain(2));
    assert!((smooth - expected).abs() < 1e-5, "{smooth} is not {expected}");
}

#[test]
fn huge_logits_stay_finite() {
    let measured = cross_entropy(tensor(&[[1e30, -1e30, 0.0]]), &[0], 0.0, 1).unwrap();
    assert_eq!(value(measured.loss), 0.0);
}

#[test]
fn the_largest_is_the_first_of_equals_and_nan_has_none() {
    assert_eq!(largest(&[1.0, 3.0, 3.0]), Some(1));
    assert_eq!(largest(&[1.0, f32::NAN]), None);
    assert_eq!(largest(&[]), None);
}
