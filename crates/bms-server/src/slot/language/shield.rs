//! Control tokens have names, and a message may hold such a name as text. Read as a token it would end the
//! message's turn and begin another in somebody else's name, so what comes from clients is covered while the template
//! renders it, and becomes text again when tokens are made.

use bms_wire::Result;
use bms_wire::conversation::Conversation;

use super::Script;

/// Around the number of a covered name. Characters for private use mean nothing in any text; a client that writes
/// them itself gets a control token's name as text.
const OPEN: char = '\u{f8fe}';
const CLOSE: char = '\u{f8ff}';

/// The names of a model's control tokens.
#[derive(Debug)]
pub(super) struct Shield {
    /// The longest first, so that a name inside another is not taken for itself.
    names: Vec<String>,
}

impl Shield {
    pub(super) fn of(script: &dyn Script) -> Self {
        let mut names = script.control_names();
        names.retain(|name| !name.is_empty());
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        Shield { names }
    }

    /// The conversation with all names covered; `None` when it holds none.
    pub(super) fn cover(&self, conversation: &Conversation) -> Option<Conversation> {
        let texts = conversation.messages.iter().flat_map(|m| [Some(&m.content), m.reasoning.as_ref()]);
        if !texts.flatten().any(|text| self.holds(text)) {
            return None;
        }
        let mut covered = conversation.clone();
        for message in &mut covered.messages {
            message.content = self.covered(&message.content);
            message.reasoning = message.reasoning.as_deref().map(|text| self.covered(text));
        }
        Some(covered)
    }

    fn holds(&self, text: &str) -> bool {
        self.names.iter().any(|name| text.contains(name.as_str()))
    }

    fn covered(&self, text: &str) -> String {
        let mut covered = text.to_owned();
        for (number, name) in self.names.iter().enumerate() {
            if covered.contains(name.as_str()) {
                covered = covered.replace(name.as_str(), &format!("{OPEN}{number}{CLOSE}"));
            }
        }
        covered
    }

    /// The tokens of a rendered conversation.
    pub(super) fn encode(&self, script: &dyn Script, text: &str) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((before, name, after)) = self.next_covered(rest) {
            tokens.extend(script.encode(before, false, true)?);
            tokens.extend(script.encode(name, false, false)?);
            rest = after;
        }
        tokens.extend(script.encode(rest, false, true)?);
        Ok(tokens)
    }

    /// What lies before the next covered name, the name, and what lies behind it.
    fn next_covered<'a>(&'a self, text: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
        let mut from = 0;
        loop {
            let open = from + text.get(from..)?.find(OPEN)?;
            let inner = open + OPEN.len_utf8();
            let close = inner + text[inner..].find(CLOSE)?;
            let number = text[inner..close].parse::<usize>().ok();
            if let Some(name) = number.and_then(|number| self.names.get(number)) {
                return Some((&text[..open], name, &text[close + CLOSE.len_utf8()..]));
            }
            from = inner;
        }
    }
}

#[cfg(test)]
mod tests;
