use super::*;

fn matrix(rows: usize, start: f32) -> Tensor {
    let values = (0..rows * 3).map(|i| start + i as f32).collect();
    Tensor::f32(vec![rows, 3], values).unwrap()
}

#[test]
fn the_shape_must_match_the_values() {
    let error = Tensor::f32(vec![2, 2], vec![0.0; 3]).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    assert!(error.message().contains("asks for 4 values, there are 3"), "{error}");
    assert!(Tensor::f32(vec![usize::MAX, 2], vec![]).is_err());
    assert!(Tensor::f32(vec![1; RANK_MAX + 1], vec![0.0]).is_err());
    assert!(Tensor::f32(vec![], vec![1.0]).is_ok(), "a scalar has one value");
    assert!(Tensor::f32(vec![0, usize::MAX, 2], vec![]).is_ok(), "an empty tensor is one");
}

#[test]
fn slicing_and_joining_rows_are_inverse() {
    let whole = matrix(5, 0.0);
    let (a, b) = (whole.slice_rows(0..2).unwrap(), whole.slice_rows(2..5).unwrap());
    assert_eq!(b.as_f32().unwrap()[0], 6.0);
    assert_eq!(Tensor::concat_rows(&[&a, &b]).unwrap(), whole);
    assert_eq!(whole.slice_rows(5..5).unwrap().shape(), &[0, 3]);
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let whole = matrix(2, 0.0);
    assert!(whole.slice_rows(1..3).is_err());
    #[allow(clippy::reversed_empty_ranges, reason = "the reversed range is the hostile input")]
    let reversed = 2..1;
    assert!(whole.slice_rows(reversed).is_err());
    assert!(Tensor::concat_rows(&[]).is_err());
    let wider = Tensor::f32(vec![1, 4], vec![0.0; 4]).unwrap();
    assert!(Tensor::concat_rows(&[&whole, &wider]).is_err());
    let other = Tensor::new(vec![1, 3], Data::I64(vec![0; 3])).unwrap();
    assert!(Tensor::concat_rows(&[&whole, &other]).is_err());
    let scalar = Tensor::f32(vec![], vec![1.0]).unwrap();
    assert!(Tensor::concat_rows(&[&scalar, &scalar]).is_err());
    assert!(scalar.slice_rows(0..1).is_err());
}

#[test]
fn names_of_types_round_trip() {
    for &dtype in DType::ALL {
        assert_eq!(DType::parse(dtype.as_str()), Some(dtype));
        assert_eq!(Data::with_capacity(dtype, 0).dtype(), dtype);
    }
    assert_eq!(DType::parse("float"), None);
}

#[test]
fn finite_is_about_every_value() {
    assert!(matrix(2, 0.0).is_finite());
    assert!(!Tensor::f32(vec![2], vec![0.0, f32::NAN]).unwrap().is_finite());
    assert!(!Tensor::new(vec![1], Data::F64(vec![f64::INFINITY])).unwrap().is_finite());
    assert!(Tensor::new(vec![1], Data::I64(vec![i64::MAX])).unwrap().is_finite());
}
