//! The text of one answer, made of tokens' bytes: whole characters only, and nothing of a stop string.

/// Text that became clear, and the stop string that ended it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Clear {
    pub(crate) text: String,
    pub(crate) stop: Option<usize>,
}

/// Collects bytes and gives out what cannot be part of a stop string or of an unfinished character any more.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
}

impl Text {
    pub(crate) fn new(stops: &[String]) -> Text {
        Text { stops: stops.iter().map(|stop| stop.clone().into_bytes()).collect(), held: Vec::new() }
    }

    /// Adds a token's bytes. Until `may_stop` stop strings are ordinary text.
    pub(crate) fn push(&mut self, bytes: &[u8], may_stop: bool) -> Clear {
        self.held.extend_from_slice(bytes);
        if !may_stop {
            return Clear { text: self.give(self.held.len()), stop: None };
        }
        if let Some((at, stop)) = self.first_stop() {
            let text = String::from_utf8_lossy(&self.held[..at]).into_owned();
            self.held.clear();
            return Clear { text, stop: Some(stop) };
        }
        let clear = self.held.len() - self.beginning_of_a_stop();
        Clear { text: self.give(clear), stop: None }
    }

    /// What is left when the answer ends otherwise. Bytes that never became a character turn into U+FFFD.
    pub(crate) fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        String::from_utf8_lossy(&held).into_owned()
    }

    /// The first place of a stop string; of several there, the one named first.
    fn first_stop(&self) -> Option<(usize, usize)> {
        let place = |stop: &Vec<u8>| self.held.windows(stop.len()).position(|window| window == &stop[..]);
        let found = self.stops.iter().enumerate().filter_map(|(number, stop)| Some((place(stop)?, number)));
        found.min()
    }

    /// The length of the longest end of the held bytes with which a stop string begins.
    fn beginning_of_a_stop(&self) -> usize {
        let longest = self.stops.iter().map(|stop| stop.len() - 1).max().unwrap_or(0).min(self.held.len());
        let begins = |length: usize| {
            let end = &self.held[self.held.len() - length..];
            self.stops.iter().any(|stop| stop.starts_with(end))
        };
        (1..=longest).rev().find(|length| begins(*length)).unwrap_or(0)
    }

    /// Takes the first `clear` bytes, less an unfinished character at their end.
    fn give(&mut self, clear: usize) -> String {
        let clear = clear - unfinished(&self.held[..clear]);
        let rest = self.held.split_off(clear);
        let given = std::mem::replace(&mut self.held, rest);
        String::from_utf8(given).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
    }
}

/// Bytes at the end that begin a character which more bytes can complete.
fn unfinished(bytes: &[u8]) -> usize {
    match std::str::from_utf8(&bytes[bytes.len().saturating_sub(3)..]) {
        Ok(_) => 0,
        Err(_) => {
            // The end is at most three bytes of a character of at most four.
            let begins = |length: &usize| {
                let end = &bytes[bytes.len() - length..];
                matches!(std::str::from_utf8(end), Err(e) if e.valid_up_to() == 0 && e.error_len().is_none())
            };
            (1..=bytes.len().min(3)).find(begins).unwrap_or(0)
        }
    }
}

#[cfg(test)]
mod tests;
