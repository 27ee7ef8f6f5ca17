use super::*;

#[test]
fn fields_are_read_in_order() {
    let message =
        [0x08, 0x96, 0x01, 0x12, 3, b'a', b'b', b'c', 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8];
    let fields: Result<Vec<_>, _> = Fields::new(&message).collect();
    let expected =
        vec![(1, Value::Varint(150)), (2, Value::Bytes(b"abc")), (3, Value::Fixed), (4, Value::Fixed)];
    assert_eq!(fields, Ok(expected));
}

#[test]
fn a_length_beyond_the_end_is_truncation() {
    for message in [&[0x12, 4, b'a'][..], &[0x12], &[0x08, 0x80], &[0x0d, 1, 2, 3]] {
        assert_eq!(Fields::new(message).collect::<Result<Vec<_>, _>>(), Err(Fault::Truncated), "{message:?}");
    }
    // The largest length there is must not overflow anything.
    let huge = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(Fields::new(&huge).collect::<Result<Vec<_>, _>>(), Err(Fault::Truncated));
}

#[test]
fn what_is_not_the_wire_format_is_malformed() {
    let endless = [0xff; 11];
    let zero_field = [0x00, 0x00];
    let group = [0x0b, 0x0c];
    for message in [&endless[..], &zero_field, &group] {
        let result = Fields::new(message).collect::<Result<Vec<_>, _>>();
        assert!(matches!(result, Err(Fault::Malformed(_))), "{message:?}: {result:?}");
    }
}

#[test]
fn integers_are_read_packed_and_single() {
    assert_eq!(integers(Value::Varint(7)).collect::<Vec<_>>(), [Ok(7)]);
    assert_eq!(integers(Value::Bytes(&[1, 0x96, 1])).collect::<Vec<_>>(), [Ok(1), Ok(150)]);
    assert_eq!(integers(Value::Bytes(&[1, 0x96])).collect::<Vec<_>>(), [Ok(1), Err(Fault::Truncated)]);
    assert!(integers(Value::Fixed).all(|number| number.is_err()));
}
