use super::*;

const HEAD: &str = r#"{"inputs":[
    {"name":"a","shape":[2],"datatype":"FP32","parameters":{"binary_data_size":8}},
    {"name":"b","shape":[1],"datatype":"INT64","data":[7]},
    {"name":"c","shape":[1],"datatype":"UINT8","parameters":{"binary_data_size":1}}]}"#;

fn body(head: &str, tail: &[u8]) -> Vec<u8> {
    [head.as_bytes(), tail].concat()
}

#[test]
fn tensors_lie_behind_the_head_in_their_order() {
    let (request, places) = read_request::<Value>(&body(HEAD, &[0; 9]), Some(HEAD.len())).unwrap();
    let at = HEAD.len();
    assert_eq!(places, [Some(at..at + 8), None, Some(at + 8..at + 9)]);
    assert_eq!(request.inputs[1].data, serde_json::json!([7]));
    let json = r#"{"inputs":[{"name":"a","shape":[1],"datatype":"BOOL","data":[true]}]}"#;
    for length in [None, Some(json.len())] {
        assert_eq!(read_request::<Value>(json.as_bytes(), length).unwrap().1, [None]);
    }
}

#[test]
fn every_mismatch_is_named() {
    let says = |head: &str, tail: &[u8], length: usize| {
        let error = read_request::<Value>(&body(head, tail), Some(length)).unwrap_err();
        assert_eq!(error.code(), Code::InvalidRequest, "{error}");
        error.message().to_owned()
    };
    let length = HEAD.len();
    assert!(says(HEAD, &[0; 8], length).contains("`c` has 1 bytes by its `binary_data_size`, 0 are left"));
    assert!(says(HEAD, &[0; 11], length).contains("2 bytes of the body belong to no tensor"));
    assert!(says(HEAD, &[0; 9], length + 10).contains("the body has"));
    assert!(says(HEAD, &[0; 9], length - 1).contains("not an inference request"));
    let both = HEAD.replace("\"data\":[7]", "\"data\":[7],\"parameters\":{\"binary_data_size\":8}");
    assert!(says(&both, &[0; 17], both.len()).contains("`b` has both"));
    for size in ["-1", "1.5", "\"8\"", "18446744073709551616", "null"] {
        let head = HEAD.replace(":8}", &format!(":{size}}}"));
        assert!(says(&head, &[0; 9], head.len()).contains("is not a number of bytes"), "{size}");
    }
    let head = HEAD.replace(":8}", ":18446744073709551615}");
    assert!(says(&head, &[0; 9], head.len()).contains("are left in the body"));
}

#[test]
fn lengths_in_headers_are_plain_numbers() {
    assert_eq!(header_length(b"12").unwrap(), 12);
    for value in [&b""[..], b"-1", b"+1", b" 1", b"1e3", b"99999999999999999999999", b"\xff"] {
        assert_eq!(header_length(value).unwrap_err().code(), Code::InvalidRequest);
    }
}

#[test]
fn elements_of_bytes_carry_their_lengths() {
    let mut bytes = Vec::new();
    push_element(&mut bytes, b"abc");
    push_element(&mut bytes, b"");
    assert_eq!(elements(&bytes, 2).unwrap(), [&b"abc"[..], b""]);
    for (bytes, count) in
        [(&bytes[..], 1), (&bytes[..], 3), (&bytes[..6], 1), (&bytes[..9], 2), (&[255; 4], 1)]
    {
        assert_eq!(elements(bytes, count).unwrap_err().code(), Code::InvalidInput);
    }
    assert!(elements(&[], usize::MAX).is_err(), "a count alone sets no memory aside");
    assert!(elements(&[], 0).unwrap().is_empty());
}

#[test]
fn names_and_sizes_of_datatypes_agree_with_json() {
    for datatype in super::super::Datatype::ALL {
        assert_eq!(serde_json::to_value(datatype).unwrap(), datatype.as_str());
        assert_eq!(super::super::Datatype::parse(datatype.as_str()), Some(datatype));
    }
    assert_eq!(super::super::Datatype::parse("fp32"), None);
}
