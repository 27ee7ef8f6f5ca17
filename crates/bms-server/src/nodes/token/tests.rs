use super::*;

#[test]
fn a_token_is_read_as_it_was_written_and_shows_no_secret() {
    let token =
        Token { address: "10.0.0.5:8443".into(), pin: "ab".repeat(32), secret: fresh_secret().unwrap() };
    assert_eq!(Token::read(&format!(" {}\n", token.write())).unwrap(), token);
    assert!(!format!("{token:?}").contains(token.secret.as_str()));
    assert_ne!(*fresh_secret().unwrap(), *token.secret);
    assert_eq!(token.digest().len(), 64);
}

#[test]
fn what_is_no_token_is_refused() {
    let good = Token { address: "a:1".into(), pin: String::new(), secret: fresh_secret().unwrap() }.write();
    for text in
        ["", "bmsw1_", "bmsw1_!!!", &good[1..], &good[..good.len() - 3], &good.replace("bmsw1", "bmsw2")]
    {
        assert_eq!(Token::read(text).unwrap_err().code(), Code::InvalidRequest, "{text}");
    }
    let nowhere = Token { address: "a".into(), pin: String::new(), secret: fresh_secret().unwrap() }.write();
    assert!(Token::read(&nowhere).is_err());
    assert!(Token::read(&format!("bmsw1_{}", "A".repeat(1 << 20))).is_err());
}
