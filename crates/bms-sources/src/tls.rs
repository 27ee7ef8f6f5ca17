//! TLS for connections to strangers: who vouches for a host.

use std::path::Path;
use std::sync::Arc;

use bms_wire::{Code, Error, Result};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// Where Linux distributions keep the certificate authorities they trust.
const SYSTEM_AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// TLS with the certificate authorities of a PEM file, or those the system trusts.
///
/// # Errors
/// [`Code::NotFound`] when the system has none, [`Code::InvalidRequest`] when the file holds none.
pub fn trusting(authority: Option<&Path>) -> Result<TlsConfig> {
    let system = || SYSTEM_AUTHORITIES.iter().map(Path::new).find(|path| path.is_file());
    let path = authority
        .or_else(system)
        .ok_or_else(|| Error::new(Code::NotFound, "this system has no list of certificate authorities"))?;
    let pem = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Error::new(Code::InvalidRequest, format!("`{}` holds no certificate", path.display())));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates)));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}
