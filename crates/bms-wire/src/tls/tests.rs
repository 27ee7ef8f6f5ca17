use rustls::Error as Tls;
use rustls::pki_types::ServerName;

use super::*;

/// The message and the hint for who asked.
#[track_caller]
fn told(error: Tls) -> (String, String) {
    // As it comes out of a handshake over a socket.
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let refusal = refusal("https://a:1", &error).unwrap();
    assert_eq!(refusal.code(), Code::Unavailable);
    (refusal.message().to_owned(), refusal.advice().unwrap().to_owned())
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_with_what_helps() {
    let (what, hint) = told(CertificateError::UnknownIssuer.into());
    assert!(what.contains("https://a:1") && what.contains("no certificate authority"), "{what}");
    assert!(hint.contains("--ca-file"), "{hint}");

    let expected = ServerName::try_from("b.example").unwrap();
    let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
    let (what, _) = told(CertificateError::NotValidForNameContext { expected, presented }.into());
    assert!(what.ends_with("is for a.example, 10.0.0.1, not for b.example"), "{what}");

    let (what, hint) = told(CertificateError::Expired.into());
    assert!(what.contains("expired") && hint.contains("clock"), "{what} {hint}");
}

#[test]
fn what_is_no_matter_of_tls_is_left_alone() {
    let error = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    assert!(refusal("https://a", &error).is_none());
    assert!(refusal("https://a", &ureq::Error::Io(error)).is_none());
    let wrapped = ureq::Error::Io(std::io::Error::other(Tls::from(CertificateError::Expired)));
    assert!(refusal("https://a", &wrapped).is_some());
}

#[test]
fn a_file_without_certificates_vouches_for_nobody() {
    let file = std::env::temp_dir().join(format!("bms-authorities-{}.pem", std::process::id()));
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let error = config(Some(&file)).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.message().contains("holds no certificate"), "{error}");
    assert_eq!(config(Some(&file)).unwrap_err().code(), Code::NotFound);
}
