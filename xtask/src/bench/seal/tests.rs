use super::parse;

#[test]
fn the_rate_is_read_from_the_machine_readable_form() {
    let printed = "+DT:AES-256-GCM:1:262144\n+R:23000:AES-256-GCM:1.000000\n+H:262144\n+F:22:AES-256-GCM:6029312000.00\n";
    assert_eq!(parse(printed).unwrap(), 6_029_312_000.0);
    for wrong in ["", "+F:22:AES-256-GCM:fast\n", "+F:22:AES-256-GCM:0\n"] {
        assert!(parse(wrong).is_err());
    }
}
