use super::*;

#[test]
fn ends_are_stripped_outside_and_padded_inside() {
    let pipeline = BytesInput { head: 4, tail: 3, block: 6, pad: 256, bytes_min: 1 };
    let of = |file: &[u8]| match tensor(&pipeline, &[file.to_vec()]).unwrap().into_parts().1 {
        Data::I32(values) => values,
        other => panic!("{other:?}"),
    };
    let bytes = |text: &str| text.bytes().map(i32::from).collect::<Vec<_>>();
    assert_eq!(of(b"abcdefghij"), bytes("abcdhij"));
    // The blocks are the first and the last six bytes, white space included.
    assert_eq!(of(b"\n \tabcdefgh \r\n\x0b"), [&bytes("abc")[..], &[256], &[256], &bytes("gh")].concat());
    assert_eq!(of(b"  "), [256; 7]);
    assert_eq!(of(b"a"), [&bytes("a")[..], &[256; 5], &bytes("a")].concat());
    assert_eq!(tensor(&pipeline, &[vec![]]).unwrap_err().code(), Code::InvalidInput);
}
