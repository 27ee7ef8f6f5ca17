//! TLS towards servers: who vouches for them, and what it means when nobody does.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::{Code, Error, Result};

/// Where Linux distributions keep the certificate authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The certificate authorities of a PEM file, or those the system trusts.
///
/// # Errors
/// [`Code::NotFound`] when the system has none, [`Code::InvalidRequest`] when the file holds none; what the system says.
pub fn authorities(file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path = file
        .or_else(system)
        .ok_or_else(|| Error::new(Code::NotFound, "this system has no list of certificate authorities"))?;
    let pem = std::fs::read(path).map_err(|e| Error::io("read the certificate authorities in", path, e))?;
    // A list may hold some that this program cannot read; those then vouch for nobody.
    let is_usable = |certificate: &CertificateDer<'_>| {
        RootCertStore::empty().add(certificate.clone().into_owned()).is_ok()
    };
    let found: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().filter(is_usable).collect();
    match found.is_empty() {
        false => Ok(found),
        true => {
            let what = format!("`{}` holds no certificate", path.display());
            Err(Error::new(Code::InvalidRequest, what)
                .hint("It is to hold certificates in PEM form, which begins `-----BEGIN CERTIFICATE-----`."))
        }
    }
}

/// TLS 1.2 and 1.3 with whom [`authorities`] vouches for.
///
/// # Errors
/// As [`authorities`].
pub fn config(file: Option<&Path>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities(file)?);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(Code::Internal, "TLS cannot be set up").because(e))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// As [`config`], for blocking clients.
///
/// # Errors
/// As [`authorities`].
pub fn blocking(file: Option<&Path>) -> Result<TlsConfig> {
    let found = authorities(file)?;
    let certificates = found.iter().map(|certificate| Certificate::from_der(certificate).to_owned());
    let roots = RootCerts::Specific(Arc::new(certificates.collect()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build())
}

/// What it means for who asked at `url` that no encrypted connection came to be: `None` when `error` is about something else.
pub fn refusal(url: &str, error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let (what, hint) = match as_tls(error)? {
        rustls::Error::InvalidCertificate(why) => {
            let (what, hint) = distrust(why);
            (format!("its certificate {what}"), hint)
        }
        rustls::Error::InvalidMessage(_) => (
            "what answers there does not speak TLS".to_owned(),
            "Use http:// in the address, or another port.",
        ),
        rustls::Error::AlertReceived(alert) => (
            format!("it refused the encrypted connection: {alert:?}"),
            "Check that the address is right; the server's log may say more.",
        ),
        other => (format!("no encrypted connection came to be: {other}"), "Check that the address is right."),
    };
    Some(Error::new(Code::Unavailable, format!("{url} cannot be reached safely: {what}")).hint(hint))
}

/// What is wrong with a certificate, and what helps.
fn distrust(why: &CertificateError) -> (String, &'static str) {
    const CLOCK: &str = "Have the server's certificate renewed; check this machine's clock, too.";
    const OTHER_NAME: &str = "Use a name of the certificate in the address, or have one made for this name.";
    match why {
        CertificateError::UnknownIssuer => (
            "is signed by no certificate authority that is trusted here".to_owned(),
            "Name the file of the server's authority, PEM, with --ca-file or BMS_CA_FILE.",
        ),
        CertificateError::BadSignature => (
            "is not signed by the authority it names".to_owned(),
            "Name the file of the server's authority, PEM, with --ca-file or BMS_CA_FILE; the one used may be an old one.",
        ),
        CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            "is for no name at all".to_owned(),
            "Have one made that has the server's name as subjectAltName.",
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            (format!("is for {}, not for {}", names.join(", "), expected.to_str()), OTHER_NAME)
        }
        CertificateError::NotValidForName => ("is for another name".to_owned(), OTHER_NAME),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("has expired".to_owned(), CLOCK)
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("is not valid yet".to_owned(), CLOCK)
        }
        // The verifier's own error has no kind of its own here.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => (
            "is that of an authority, which no server may show".to_owned(),
            "Have the authority sign one for the server, or make one with basicConstraints CA:FALSE.",
        ),
        other => (format!("is not accepted: {other}"), "Have the server's certificate made anew."),
    }
}

/// `DnsName("host")` without what stands around it.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

/// The error of TLS that this one is, or is because of.
fn as_tls<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // An `io::Error` hides what it holds from `source`.
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return as_tls(inner);
    }
    match error.downcast_ref::<ureq::Error>() {
        Some(ureq::Error::Rustls(tls)) => Some(tls),
        Some(ureq::Error::Io(e)) => as_tls(e),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
