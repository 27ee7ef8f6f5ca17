//! Keys that somebody else keeps.

use bms_wire::Result;

use super::cipher::DataKey;

/// A service that wraps and unwraps data keys with a key that never leaves it.
///
/// This crate knows no network; whoever composes the program brings an implementation.
pub trait Kms: Send + Sync {
    /// Names service and key in an envelope, e.g. `vault:https://vault.example:8200/transit/models`. Two that can
    /// unwrap each other's keys have one name.
    fn uri(&self) -> &str;

    /// Wraps a key. The answer is opaque text.
    ///
    /// # Errors
    /// [`bms_wire::Code::Unavailable`] when the service cannot be reached, [`bms_wire::Code::PermissionDenied`] when
    /// it refuses.
    fn wrap(&self, key: &DataKey) -> Result<String>;

    /// Unwraps what [`Kms::wrap`] answered.
    ///
    /// # Errors
    /// As [`Kms::wrap`].
    fn unwrap(&self, wrapped: &str) -> Result<DataKey>;

    /// Wraps the same key with the newest version of the service's key, which thereby never leaves the service.
    ///
    /// # Errors
    /// As [`Kms::wrap`].
    fn rewrap(&self, wrapped: &str) -> Result<String>;
}
