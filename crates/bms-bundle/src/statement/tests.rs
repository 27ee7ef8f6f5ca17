use bms_wire::Code;

use super::{Statement, sign};
use crate::SigningKey;

const KIND: &str = "application/vnd.bms.test+json";

#[test]
fn a_statement_is_read_back_and_any_flipped_byte_is_refused() {
    let key = SigningKey::generate();
    let bytes = sign(KIND, &["something", "said"], &key).unwrap();
    let read = |bytes: &[u8]| {
        let statement = Statement::parse(KIND, bytes, 4096)?;
        statement.verify(key.public())?;
        statement.body::<Vec<String>>()
    };
    assert_eq!(read(&bytes).unwrap(), ["something", "said"]);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let refused = read(&changed).expect_err("a flipped bit is refused");
            assert_eq!(refused.code(), Code::SignatureInvalid, "byte {at}");
        }
    }
}

#[test]
fn a_statement_of_another_kind_or_key_or_size_is_refused() {
    let key = SigningKey::generate();
    let bytes = sign(KIND, &1, &key).unwrap();
    assert!(Statement::parse("application/vnd.bms.other+json", &bytes, 4096).is_err());
    assert!(Statement::parse(KIND, &bytes, bytes.len() - 1).is_err());
    assert!(Statement::parse(KIND, &bytes, 4096).unwrap().verify(SigningKey::generate().public()).is_err());
}
