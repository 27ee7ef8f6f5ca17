use bms_nn::DType;

use super::super::data::parse;
use super::Quick;

/// Values of every kind, and what is none.
const VALUES: [&str; 31] = [
    "0",
    "-0",
    "1",
    "-1",
    "127",
    "128",
    "-129",
    "255",
    "256",
    "65535",
    "65536",
    "2147483648",
    "4294967296",
    "1.0",
    "1.5",
    "-2.25e3",
    "0.1",
    "3.4028236e38",
    "65520",
    "1e39",
    "1e308",
    "1e400",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "true",
    "null",
    "\"\"",
    "\"a\\u00e9\\n\"",
    "\"\\ud800\"",
    "{}",
];

/// What only a tree holds: integers beyond 63 bits.
const OF_TREES: [&str; 2] = ["9223372036854775808", "18446744073709551615"];

/// Reads a text in one pass, and by way of a tree: the same comes of it. Whether it is a tensor.
#[track_caller]
fn same(dtype: DType, text: &str, dims: &[i64]) -> bool {
    let quick = serde_json::from_str::<Quick>(text).ok().and_then(|quick| quick.tensor(dtype, dims).ok());
    let tree = serde_json::from_str(text).ok().and_then(|tree| parse(dtype, &tree, dims).ok());
    if quick.is_some() || !OF_TREES.iter().any(|value| text.contains(value)) {
        assert_eq!(quick, tree, "{text} as {dtype} {dims:?}");
    }
    quick.is_some()
}

#[test]
fn every_value_is_read_as_from_a_tree() {
    let mut good = 0;
    for &dtype in DType::ALL {
        for value in VALUES {
            good += usize::from(same(dtype, &format!("[{value}]"), &[1]));
            same(dtype, &format!("[1,{value},1]"), &[3]);
        }
    }
    assert!(100 < good, "{good}");
}

#[test]
fn every_shape_is_read_as_from_a_tree() {
    let texts = [
        "[]",
        "[ ]",
        "[[]]",
        "[[],[]]",
        "[1]",
        "[[1]]",
        "[[[1]]]",
        "[1,2,3,4]",
        " [ 1 , 2,\t3,4 ] ",
        "[[1,2],[3,4]]",
        "[[1,2],[3]]",
        "[[1,2],3]",
        "[1,[2]]",
        "[[1],[2],[3],[4]]",
        "[[1,2,3,4]]",
        "[[[1],[2]],[[3],[4]]]",
        "[[1,2],[3,4],[5,6]]",
        "7",
        "{}",
        "\"[1]\"",
        "null",
        "[1,2,3,4,5]",
        "[null,[1]]",
    ];
    let shapes: [&[i64]; 12] =
        [&[], &[0], &[1], &[4], &[2, 2], &[4, 1], &[1, 4], &[2, 0], &[0, 2], &[2, 2, 1], &[1 << 40], &[-1]];
    let mut good = 0;
    for text in texts {
        for dims in shapes {
            good += usize::from(same(DType::F32, text, dims));
        }
    }
    assert!(12 < good, "{good}");
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    same(DType::F32, &deep, &[1; 16]);
}

#[test]
fn numbers_are_read_to_the_last_bit() {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    for _ in 0..200 {
        let values: Vec<f64> = (0..16).map(|_| f64::from_bits(next() << 11 ^ next())).collect();
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let text = serde_json::to_string(&values).unwrap();
        same(DType::F64, &text, &[values.len() as i64]);
        same(DType::F32, &text, &[values.len() as i64]);
    }
}
