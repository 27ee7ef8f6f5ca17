//! Asking a model about one thing as it is: a picture, a text, a recording or a file.

use std::time::Duration;

use super::{Client, STALL_TIMEOUT, segment};
use crate::{Result, limits};

impl Client {
    /// Sends a body of this media type and gives back the answer's, which is to be of the other: `application/json` for
    /// [`crate::Outcomes`], or `image/png` for the picture that was sent with the answer drawn into it.
    ///
    /// # Errors
    /// What the server says; [`crate::Code::Unavailable`] when it cannot be reached.
    pub fn ask(&self, model: &str, body: &[u8], media: &str, accept: &str) -> Result<Vec<u8>> {
        let url = self.url(&format!("/v2/models/{}/infer", segment(model)));
        let request = self.agent.post(&url).header("content-type", media).header("accept", accept);
        let timeout = Duration::from_millis(2 * limits::INFER_DEADLINE_MS);
        let config = request.config().timeout_global(Some(timeout)).timeout_per_read(Some(STALL_TIMEOUT));
        let response = config.build().send(body).map_err(|e| self.unreachable(e))?;
        self.whole(self.check(response)?, limits::REPLY_BYTES_MAX)
    }
}
