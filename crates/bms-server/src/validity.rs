//! Between which times a certificate is good.

use der::asn1::{AnyRef, GeneralizedTime, UtcTime};
use der::{Decode, SliceReader, Tag};

/// From when and until when, in seconds since 1970, <https://www.rfc-editor.org/rfc/rfc5280#section-4.1>.
pub(crate) fn validity(certificate: &[u8]) -> der::Result<(i64, i64)> {
    let mut certificate = SliceReader::new(AnyRef::from_der(certificate)?.value())?;
    let mut signed = SliceReader::new(AnyRef::decode(&mut certificate)?.value())?;
    let first = AnyRef::decode(&mut signed)?;
    // The version stands before the serial number when it is not the first one.
    if matches!(der::Tagged::tag(&first), Tag::ContextSpecific { .. }) {
        AnyRef::decode(&mut signed)?;
    }
    let (_algorithm, _issuer) = (AnyRef::decode(&mut signed)?, AnyRef::decode(&mut signed)?);
    let mut times = SliceReader::new(AnyRef::decode(&mut signed)?.value())?;
    Ok((time(AnyRef::decode(&mut times)?)?, time(AnyRef::decode(&mut times)?)?))
}

fn time(value: AnyRef<'_>) -> der::Result<i64> {
    let since = match der::Tagged::tag(&value) {
        Tag::UtcTime => value.decode_as::<UtcTime>()?.to_unix_duration(),
        _ => value.decode_as::<GeneralizedTime>()?.to_unix_duration(),
    };
    Ok(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
