//! The document somebody writes to say what a model's pipeline is.

use bms_wire::{Code, Error, Pipeline, Result, limits};

/// Reads a pipeline in TOML, or in JSON as it stands in a manifest. Lists of names may be missing still, so that it is not
/// checked as a whole: see [`Pipeline::check`].
///
/// # Errors
/// [`Code::InvalidRequest`] when it is neither, or says what no pipeline has; [`Code::TooLarge`] over
/// [`limits::CONTROL_BODY_BYTES_MAX`].
pub fn read_pipeline(bytes: &[u8]) -> Result<Pipeline> {
    if limits::CONTROL_BODY_BYTES_MAX < bytes.len() {
        return Err(Error::new(
            Code::TooLarge,
            format!("the pipeline is over {} bytes", limits::CONTROL_BODY_BYTES_MAX),
        ));
    }
    let malformed =
        |why: String| Error::new(Code::InvalidRequest, format!("the pipeline is malformed: {why}"));
    let text = std::str::from_utf8(bytes).map_err(|e| malformed(e.to_string()).because(e))?;
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|e| malformed(e.to_string()).because(e)),
        false => toml::from_str(text).map_err(|e| malformed(e.to_string()).because(e)),
    }
}

#[cfg(test)]
mod tests;
