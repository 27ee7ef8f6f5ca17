//! The one table of error codes. Server, client, command line and `docs/reference/errors.md` read it.

/// What a caller should do with a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Sending the same request again will fail again.
    Never,
    /// Nothing was changed; send it again after a pause (`Retry-After` tells how long).
    Later,
}

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $name:ident => $wire:literal, $http:literal, $grpc:literal, $exit:literal, $retry:ident; )+) => {
        /// Why something failed, in the terms a caller can act on.
        ///
        /// Each code has one HTTP status, one gRPC status, one process exit code and one retry rule.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $( $(#[doc = $doc])+ $name, )+ }

        impl Code {
            /// Every code, in the order of the reference page.
            pub const ALL: &'static [Code] = &[ $( Code::$name, )+ ];

            /// The name on the wire, in `snake_case`.
            pub fn as_str(self) -> &'static str { match self { $( Code::$name => $wire, )+ } }

            /// The HTTP status.
            pub fn http(self) -> u16 { match self { $( Code::$name => $http, )+ } }

            /// The gRPC status name.
            pub fn grpc(self) -> &'static str { match self { $( Code::$name => $grpc, )+ } }

            /// The exit code of a command that ends with it.
            pub fn exit(self) -> u8 { match self { $( Code::$name => $exit, )+ } }

            /// Whether the same request may succeed later.
            pub fn retry(self) -> Retry { match self { $( Code::$name => Retry::$retry, )+ } }

            /// What it means, as documented.
            pub fn meaning(self) -> &'static str { match self { $( Code::$name => concat!($($doc),+).trim_ascii(), )+ } }

            /// The code with this wire name.
            pub fn from_wire(name: &str) -> Option<Code> { match name { $( $wire => Some(Code::$name), )+ _ => None } }
        }
    };
}

codes! {
    /// The request is malformed: not JSON, a missing field, an unknown option.
    InvalidRequest => "invalid_request", 400, "INVALID_ARGUMENT", 10, Never;
    /// The input does not fit the model: not an image, wrong shape or type, NaN or infinity.
    InvalidInput => "invalid_input", 400, "INVALID_ARGUMENT", 11, Never;
    /// A body, file or count is over its limit.
    TooLarge => "too_large", 413, "RESOURCE_EXHAUSTED", 12, Never;
    /// No credentials, or wrong ones.
    Unauthenticated => "unauthenticated", 401, "UNAUTHENTICATED", 13, Never;
    /// The caller may not do this.
    PermissionDenied => "permission_denied", 403, "PERMISSION_DENIED", 14, Never;
    /// No such path, file, node, sample or other resource.
    NotFound => "not_found", 404, "NOT_FOUND", 15, Never;
    /// No model or alias of this name, or it is not deployed here.
    ModelNotFound => "model_not_found", 404, "NOT_FOUND", 16, Never;
    /// The model has no such version.
    VersionNotFound => "version_not_found", 404, "NOT_FOUND", 17, Never;
    /// It exists already with other content; versions are immutable.
    Conflict => "conflict", 409, "ALREADY_EXISTS", 18, Never;
    /// The protocol knows it, this server does not do it.
    NotSupported => "not_supported", 501, "UNIMPLEMENTED", 19, Never;
    /// The bundle cannot be read: manifest missing or malformed, model file truncated.
    InvalidBundle => "invalid_bundle", 422, "INVALID_ARGUMENT", 20, Never;
    /// The bytes are not those the manifest or the signature names.
    Tampered => "tampered", 403, "PERMISSION_DENIED", 21, Never;
    /// The bundle carries no signature and the policy asks for one.
    SignatureMissing => "signature_missing", 403, "PERMISSION_DENIED", 22, Never;
    /// The signature does not verify.
    SignatureInvalid => "signature_invalid", 403, "PERMISSION_DENIED", 23, Never;
    /// The signature is good but its key is not on the allow-list for this model.
    SignerUntrusted => "signer_untrusted", 403, "PERMISSION_DENIED", 24, Never;
    /// The scanner found code or a construct that attacks its reader.
    MaliciousContent => "malicious_content", 403, "PERMISSION_DENIED", 25, Never;
    /// The policy does not admit a file of this format.
    FormatDenied => "format_denied", 403, "PERMISSION_DENIED", 26, Never;
    /// No engine here can run the model exactly: an operator, type or attribute is not supported.
    UnsupportedModel => "unsupported_model", 422, "FAILED_PRECONDITION", 27, Never;
    /// Quality fell more than the caller allows.
    QualityRefused => "quality_refused", 409, "FAILED_PRECONDITION", 28, Never;
    /// The model is sealed and none of the keys given here opens it.
    KeyMissing => "key_missing", 403, "PERMISSION_DENIED", 29, Never;
    /// The lease of a sealed model is over, has not begun, or the clock was set back.
    LeaseExpired => "lease_expired", 403, "PERMISSION_DENIED", 35, Never;
    /// The signer's key was revoked, or signed outside the time it is trusted for.
    KeyRevoked => "key_revoked", 403, "PERMISSION_DENIED", 36, Never;
    /// Fewer publishers approved the bundle than the policy asks for.
    ApprovalMissing => "approval_missing", 403, "PERMISSION_DENIED", 37, Never;
    /// The queue is full; nothing was changed.
    QueueFull => "queue_full", 429, "RESOURCE_EXHAUSTED", 30, Later;
    /// The caller's key has used what it may for now; nothing was changed.
    RateLimited => "rate_limited", 429, "RESOURCE_EXHAUSTED", 38, Later;
    /// The model is loading, draining or restarting, or the centre cannot be reached.
    Unavailable => "unavailable", 503, "UNAVAILABLE", 31, Later;
    /// The work did not finish in the time allowed.
    DeadlineExceeded => "deadline_exceeded", 504, "DEADLINE_EXCEEDED", 32, Later;
    /// The disk or the store is full; nothing was changed.
    StorageFull => "storage_full", 507, "RESOURCE_EXHAUSTED", 33, Later;
    /// A file or device could not be read or written.
    Io => "io", 500, "INTERNAL", 34, Later;
    /// A fault of the program itself. Please report it.
    Internal => "internal", 500, "INTERNAL", 70, Never;
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        // A newer peer may know codes this one does not; they must still be readable.
        Ok(Code::from_wire(&name).unwrap_or(Code::Internal))
    }
}

#[cfg(test)]
mod tests;
