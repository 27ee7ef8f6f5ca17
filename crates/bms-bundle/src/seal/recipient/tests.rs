use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bms_wire::Code;
use zeroize::Zeroizing;

use super::{PassphraseCost, Recipient, To};
use crate::SigningKey;
use crate::seal::DataKey;

const SEAL: [u8; 16] = [3; 16];
const CHEAP: PassphraseCost = PassphraseCost { memory_kib: 64, passes: 1 };

#[test]
fn a_key_pair_opens_what_was_wrapped_for_it() {
    let (own, other) = (SigningKey::generate(), SigningKey::generate());
    let key = DataKey::generate().unwrap();
    let wrapped = Recipient::wrap(&To::Key(own.public().clone()), &SEAL, &key).unwrap();
    let opened = wrapped.open_with_key(&SEAL, &own).unwrap().unwrap();
    assert_eq!(opened.expose(), key.expose());
    assert!(wrapped.open_with_key(&SEAL, &other).unwrap().is_none(), "for somebody else");
    assert_eq!(wrapped.open_with_key(&[4; 16], &own).unwrap_err().code(), Code::Tampered, "of another seal");
    assert!(wrapped.open_with_passphrase(&SEAL, b"x").unwrap().is_none());
}

#[test]
fn a_passphrase_opens_what_was_wrapped_for_it() {
    let key = DataKey::generate().unwrap();
    let to = To::Passphrase(Zeroizing::new(b"correct horse".to_vec()), CHEAP);
    let wrapped = Recipient::wrap(&to, &SEAL, &key).unwrap();
    let opened = wrapped.open_with_passphrase(&SEAL, b"correct horse").unwrap().unwrap();
    assert_eq!(opened.expose(), key.expose());
    assert!(wrapped.open_with_passphrase(&SEAL, b"battery staple").unwrap().is_none());
    assert!(!format!("{to:?}").contains("horse"));
}

#[test]
fn a_cost_over_the_limit_is_refused_before_it_is_paid() {
    for (memory_kib, passes, lanes) in
        [(u32::MAX, 1, 1), (64, u32::MAX, 1), (64, 0, 1), (64, 1, 0), (64, 1, 1000)]
    {
        let hostile = Recipient::Passphrase {
            salt: "AAAAAAAAAAA=".to_owned(),
            memory_kib,
            passes,
            lanes,
            wrapped: String::new(),
        };
        assert!(hostile.validate().is_err());
        assert_eq!(hostile.open_with_passphrase(&SEAL, b"x").unwrap_err().code(), Code::InvalidBundle);
    }
}

/// Computed with the Python package `cryptography`, whose cipher is OpenSSL's.
#[test]
fn a_wrapped_key_is_that_of_another_implementation() {
    let (seal, key) = (std::array::from_fn(|i| i as u8), std::array::from_fn::<u8, 32, _>(|i| 100 + i as u8));
    let wrapped = super::wrap(&seal, &[9; 32], &DataKey::from_bytes(&key).unwrap()).unwrap();
    let known =
        "82a603434f5651e6d17e826d00f85adb253ff35c494ad6d3f9491dfc31f7fd7182cd2f5329684d1bfeba3c76ef6080c1";
    assert_eq!(wrapped, STANDARD.encode(hex::decode(known).unwrap()));
    assert_eq!(super::unwrap(&seal, &[9; 32], &wrapped).unwrap().unwrap().expose(), key);
}
