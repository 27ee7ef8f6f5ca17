use bms_engine::Classification;

use super::*;

fn answer(values: &[f32], probabilities: Option<&[f32]>) -> Answer {
    let ranked = |p: &[f32]| Classification { ranked: p.iter().map(|&p| (p.to_string(), p)).collect() };
    Answer {
        outputs: vec![("y".to_owned(), Tensor::f32(vec![1, values.len()], values.to_vec()).unwrap())],
        classes: probabilities.map(|p| vec![ranked(p)]),
        found: None,
    }
}

#[test]
fn only_finite_values_and_whole_probabilities_pass() {
    assert!(check(&answer(&[1.0, -2.0], None), true).is_ok());
    assert!(check(&answer(&[1.0], Some(&[0.75, 0.25])), true).is_ok());
    for (values, probabilities) in [
        (&[f32::NAN][..], None),
        (&[1.0, f32::INFINITY], None),
        (&[1.0], Some(&[0.75, 0.5][..])),
        (&[1.0], Some(&[f32::NAN, 0.5])),
    ] {
        let refused = check(&answer(values, probabilities), true).unwrap_err();
        assert_eq!(refused.code(), Code::UnsupportedModel, "{values:?} {probabilities:?}");
    }
}

#[test]
fn a_part_of_the_labels_need_not_sum_to_one() {
    assert!(check(&answer(&[1.0], Some(&[0.5, 0.25])), false).is_ok());
    assert!(check(&answer(&[1.0], Some(&[f32::NAN, 0.25])), false).is_err());
    assert!(check(&answer(&[1.0], Some(&[1.5])), false).is_err());
}

#[test]
fn zeros_have_the_inputs_type_and_shape() {
    for &dtype in DType::ALL {
        let spec = ValueSpec { name: "x".into(), dtype, shape: vec![None, Some(3)], ranked: true };
        let tensor = zeros(&spec).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (dtype, &[1, 3][..]));
    }
    let huge = ValueSpec {
        name: "x".into(),
        dtype: DType::F32,
        shape: vec![Some(usize::MAX), Some(2)],
        ranked: true,
    };
    assert_eq!(zeros(&huge).unwrap_err().code(), Code::UnsupportedModel);
}
