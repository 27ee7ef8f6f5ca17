use bms_nn::Data;
use serde_json::{Value, json};

use super::data::Shown;
use super::*;

fn parse(dtype: DType, data: Value, shape: &[i64]) -> Result<Data> {
    data::parse(dtype, &data, shape).map(|tensor| tensor.data().clone())
}

fn shown(data: &Data) -> Value {
    serde_json::from_str(&serde_json::to_string(&Shown(Some(data.clone()))).unwrap()).unwrap()
}

#[test]
fn nested_and_flat_data_mean_the_same() {
    let want = Data::F32(vec![1.0, 2.0, 3.0, 4.0]);
    assert_eq!(parse(DType::F32, json!([1, 2, 3, 4]), &[2, 2]).unwrap(), want);
    assert_eq!(parse(DType::F32, json!([[1, 2], [3, 4]]), &[2, 2]).unwrap(), want);
    assert_eq!(parse(DType::Bool, json!([true, false]), &[2]).unwrap(), Data::Bool(vec![true, false]));
    assert_eq!(parse(DType::U8, json!([0, 255]), &[2]).unwrap(), Data::U8(vec![0, 255]));
}

#[test]
fn what_does_not_fit_is_refused_with_the_right_code() {
    for (dtype, data, shape) in [
        (DType::F32, json!([1, 2, 3]), &[2, 2][..]),
        (DType::F32, json!([[1, 2, 3], [4]]), &[2, 2]),
        (DType::F32, json!([[[1]], [[2]]]), &[2, 1]),
        (DType::F32, json!([1, [2]]), &[2]),
        (DType::F32, json!(["NaN", 1]), &[2]),
        (DType::F32, json!([1e300, 1]), &[2]),
        (DType::F32, json!([null]), &[1]),
        (DType::F32, json!(7), &[1]),
        (DType::I8, json!([128]), &[1]),
        (DType::U8, json!([-1]), &[1]),
        (DType::I64, json!([1.5]), &[1]),
        (DType::Bool, json!([1]), &[1]),
        (DType::F32, json!([]), &[-1]),
        (DType::F32, json!([1]), &[i64::MAX, 2]),
    ] {
        let error = parse(dtype, data.clone(), shape).unwrap_err();
        assert_eq!(error.code(), Code::InvalidInput, "{data} as {dtype} {shape:?}: {error}");
    }
    assert_eq!(parse(DType::F32, json!([]), &[1 << 40]).unwrap_err().code(), Code::TooLarge);
}

#[test]
fn values_survive_the_way_out_and_in() {
    let values = Data::F32(vec![0.1, -3.25e-30, f32::MAX, 0.0]);
    let json = shown(&values);
    assert_eq!(parse(DType::F32, serde_json::from_str(&json.to_string()).unwrap(), &[4]).unwrap(), values);
    let values = Data::I64(vec![i64::MIN, i64::MAX]);
    assert_eq!(parse(DType::I64, shown(&values), &[2]).unwrap(), values);
}

#[test]
fn datatypes_map_both_ways() {
    for &dtype in DType::ALL {
        assert_eq!(super::dtype(datatype(dtype)), dtype);
    }
}

#[test]
fn halves_and_strings_have_a_form_in_json() {
    let halves = parse(DType::F16, json!([0.5, -2]), &[2]).unwrap();
    assert_eq!(shown(&halves), json!([0.5, -2.0]));
    assert_eq!(shown(&parse(DType::BF16, json!([3]), &[1]).unwrap()), json!([3.0]));
    assert!(parse(DType::F16, json!([1e6]), &[1]).is_err(), "it would be infinite");
    let text = parse(DType::Text, json!(["a", ""]), &[2]).unwrap();
    assert_eq!(shown(&text), json!(["a", ""]));
    assert!(parse(DType::Text, json!([1]), &[1]).is_err());
}
