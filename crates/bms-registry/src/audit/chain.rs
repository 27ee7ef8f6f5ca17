//! The chain outside the database: events as JSON lines, and the signed end that closes them.

use bms_bundle::PublicKey;
use bms_bundle::statement::Statement;
use bms_wire::api::AuditEvent;
use bms_wire::{Code, Error, Result, limits};

use super::head::KIND;
use super::{Head, NO_HASH, Stored, canonical, tampered};

/// Bytes of one line: an event with the largest details and subject, escaped.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Follows exported events, line by line.
#[derive(Debug)]
pub struct AuditChain {
    last: Head,
}

impl Default for AuditChain {
    fn default() -> Self {
        AuditChain { last: Head { sequence: 0, hash: NO_HASH.to_owned() } }
    }
}

impl AuditChain {
    /// The next event.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not the one that follows.
    pub fn push(&mut self, line: &str) -> Result<()> {
        let next = self.last.sequence + 1;
        let wrong = |e: serde_json::Error| tampered(format!("line {next} is no event: {e}"));
        if LINE_BYTES_MAX < line.len() {
            return Err(Error::new(Code::TooLarge, format!("line {next} holds {} bytes", line.len())));
        }
        let event: AuditEvent = serde_json::from_str(line).map_err(wrong)?;
        // What was hashed is the event; a line that says the same in another spelling was written by somebody else.
        if serde_json::to_string(&event).map_err(wrong)? != line {
            return Err(tampered(format!("line {next} is not as it was exported")));
        }
        let stored = Stored {
            sequence: event.sequence,
            at_ms: event.at_ms,
            action: event.action,
            subject: event.subject,
            details: canonical::json(&event.details),
            previous: event.previous,
            hash: event.hash,
        };
        stored.follows(&self.last)?;
        self.last = Head { sequence: stored.sequence, hash: stored.hash };
        Ok(())
    }

    /// The last line: where the chain ends, signed by the server's audit key. Returns the number of events.
    ///
    /// # Errors
    /// [`Code::Tampered`] when the events end elsewhere, [`Code::SignatureInvalid`].
    pub fn end(self, line: &str, key: &PublicKey) -> Result<u64> {
        let statement = parse(line)?;
        statement.verify(key)?;
        let head: Head = statement.body()?;
        match head == self.last {
            true => Ok(head.sequence),
            false => Err(tampered(format!(
                "the events end at {}, not at {} as the server signed",
                self.last.sequence, head.sequence
            ))),
        }
    }

    /// The number of the event a signed end names, as claimed.
    ///
    /// # Errors
    /// [`Code::SignatureInvalid`].
    pub fn length_claimed(line: &str) -> Result<u64> {
        Ok(parse(line)?.body::<Head>()?.sequence)
    }
}

fn parse(line: &str) -> Result<Statement> {
    Statement::parse(KIND, line.as_bytes(), limits::STATEMENT_BYTES_MAX)
}
