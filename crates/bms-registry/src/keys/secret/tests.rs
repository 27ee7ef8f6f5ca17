use super::*;

#[test]
fn what_is_made_is_read_again_and_nothing_else_is() {
    let made = Secret::random().unwrap();
    let text = made.clone().shown();
    assert_eq!(Secret::parse(&format!(" {text}\n")).unwrap(), made);
    assert_eq!(made.id(), &text[..KEY_ID_CHARS]);
    assert!(!format!("{made:?}").contains(&text[KEY_ID_CHARS + 1..]));
    let short = &text[..text.len() - 1];
    let other = text.replacen("bms_", "smb_", 1);
    for bad in
        ["", "bms_", "secret", short, &format!("{text}0"), &text.to_uppercase(), &other, &format!("{short}é")]
    {
        let refused = Secret::parse(bad).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidRequest, "{bad}");
        assert!(bad.len() < 20 || !format!("{refused:?}").contains(bad), "{refused:?}");
    }
}

#[test]
fn a_monitors_key_is_its_secret_and_no_other() {
    let text = Secret::random().unwrap().shown();
    let key = MonitorKey::new(&format!("{text}\n")).unwrap();
    assert!(key.is(text.as_bytes()) && !key.is(&text.as_bytes()[1..]) && !key.is(b""));
    assert!(MonitorKey::new("letmein").is_err());
    assert!(!format!("{key:?}").contains(&text[KEY_ID_CHARS + 1..]));
}
