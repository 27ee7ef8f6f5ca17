use super::*;

#[test]
fn bytes_and_values_are_the_same() {
    for &dtype in DType::ALL.iter().filter(|dtype| dtype.size() != 0) {
        // 0 and 1 are values of every type, bools included.
        let bytes: Vec<u8> = (0..16).map(|i| u8::from(i % 3 == 0)).collect();
        let data = Data::from_le_bytes(dtype, &bytes).unwrap();
        assert_eq!((data.dtype(), data.len()), (dtype, 16 / dtype.size()));
        let mut back = vec![7];
        data.extend_le_bytes(&mut back);
        assert_eq!(back[1..], bytes, "{dtype}");
        if dtype.size() != 1 {
            assert!(Data::from_le_bytes(dtype, &bytes[1..]).is_err(), "{dtype}");
        }
    }
    assert_eq!(Data::from_le_bytes(DType::I32, &[1, 2, 0, 0]).unwrap(), Data::I32(vec![513]));
    assert_eq!(Data::from_le_bytes(DType::F16, &[0, 0x3c]).unwrap(), Data::F16(vec![f16::ONE]));
    assert_eq!(Data::from_le_bytes(DType::BF16, &[0x80, 0x3f]).unwrap(), Data::BF16(vec![bf16::ONE]));
}

#[test]
fn a_bool_is_zero_or_one_and_strings_have_no_bytes() {
    assert!(Data::from_le_bytes(DType::Bool, &[0, 2]).unwrap_err().message().contains("value 1"));
    assert!(Data::from_le_bytes(DType::Text, b"abc").is_err());
    assert_eq!(Data::Text(vec!["a".into()]).as_text().unwrap(), ["a"]);
}
