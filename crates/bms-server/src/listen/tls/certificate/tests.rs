use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;

use super::*;

/// 2026-01-01 and 2027-01-01, in seconds since 1970.
const FROM: i64 = 1_767_225_600;
const UNTIL: i64 = 1_798_761_600;

fn pem(kind: &str, der: &[u8]) -> String {
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", STANDARD.encode(der))
}

/// PEM of a certificate for these years and of its key.
fn made(years: std::ops::Range<i32>) -> (String, String) {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.start, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.end, 1, 1);
    let certificate = params.self_signed(&key).unwrap();
    (pem("CERTIFICATE", certificate.der()), pem("PRIVATE KEY", key.serialized_der()))
}

/// A certificate and its key that are good for long.
pub(in crate::listen::tls) fn write_pair(certificate: &Path, key: &Path) {
    let (of_certificate, of_key) = made(2020..2100);
    std::fs::write(certificate, of_certificate).unwrap();
    std::fs::write(key, of_key).unwrap();
}

/// What the two files come to in the middle of 2026.
fn load(certificate: &str, key: &str) -> Result<Pair> {
    let dir = TempDir::new().unwrap();
    let (of_certificate, of_key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&of_certificate, certificate).unwrap();
    std::fs::write(&of_key, key).unwrap();
    Pair::load(&of_certificate, &of_key, (FROM + UNTIL) / 2)
}

#[track_caller]
fn refused(certificate: &str, key: &str, why: &str) {
    let error = load(certificate, key).unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert!(error.message().contains(why), "{error}");
    assert!(error.advice().is_some(), "{error}");
}

#[test]
fn its_times_are_read_in_both_forms_they_have() {
    let (certificate, key) = made(2026..2027);
    let pair = load(&certificate, &key).unwrap();
    assert_eq!((pair.from, pair.until), (FROM, UNTIL));
    // From 2050 on a year has four digits.
    let (certificate, key) = made(2026..2060);
    assert_eq!(load(&certificate, &key).unwrap().until, 2_840_140_800);
}

#[test]
fn what_cannot_be_shown_is_refused_with_advice() {
    let (certificate, key) = made(2026..2027);
    let (other, _) = made(2026..2027);
    refused(&other, &key, "does not belong to");
    refused("", &key, "holds no certificate");
    refused(&key, &key, "holds no certificate");
    refused(&certificate, &certificate, "holds no private key");
    refused(&certificate, "", "holds no private key");
    refused(&certificate[..certificate.len() / 2], &key, "is no PEM file");
    let protected = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    refused(&certificate, &protected, "passphrase");
    let (old, of_old) = made(2020..2025);
    refused(&old, &of_old, "days ago");
    let garbage = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    refused(garbage, &key, "cannot be read");
}

#[test]
fn a_file_that_is_not_there_is_named_with_its_option() {
    let error = Pair::load(Path::new("/nowhere/tls.crt"), Path::new("/nowhere/tls.key"), FROM).unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("/nowhere/tls.crt"), "{error}");
    assert!(error.advice().unwrap().contains("--tls-cert"), "{error}");
}

#[test]
fn a_key_that_everybody_can_read_is_noticed() {
    let dir = TempDir::new().unwrap();
    let (certificate, key) = made(2026..2027);
    let (of_certificate, of_key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    std::fs::write(&of_certificate, certificate).unwrap();
    std::fs::write(&of_key, key).unwrap();
    for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, true)] {
        std::fs::set_permissions(&of_key, std::fs::Permissions::from_mode(mode)).unwrap();
        let pair = Pair::load(&of_certificate, &of_key, FROM).unwrap();
        assert_eq!(pair.key_is_open, is_open, "{mode:o}");
    }
}

#[test]
fn no_bytes_of_a_certificate_make_its_reader_stumble() {
    let (certificate, _) = made(2026..2027);
    let der = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
    for length in 0..der.len() {
        assert!(validity(&der[..length]).is_err());
    }
    for at in 0..der.len() {
        for byte in [0, 0x7f, 0x80, 0xff] {
            let mut changed = der.to_vec();
            changed[at] = byte;
            let _ = validity(&changed);
        }
    }
}
