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
