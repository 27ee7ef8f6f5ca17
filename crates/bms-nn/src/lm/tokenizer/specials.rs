//! Finds tokens that are kept whole inside a text: control tokens, and those a user has added.

use aho_corasick::{AhoCorasick, MatchKind};
use bms_wire::{Code, Error, Result};

/// A token to look for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Special {
    pub(super) id: u32,
    /// Only looked for when a text may hold control tokens.
    pub(super) control: bool,
    /// Whether white space before it belongs to it.
    pub(super) strip_before: bool,
    /// Whether white space behind it belongs to it.
    pub(super) strip_behind: bool,
}

/// One part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

/// What to look for, with and without control tokens.
#[derive(Debug, Default)]
pub(super) struct Specials {
    all: Option<Search>,
    text: Option<Search>,
}

#[derive(Debug)]
struct Search {
    automaton: AhoCorasick,
    specials: Vec<Special>,
}

impl Specials {
    /// Errors: [`Code::UnsupportedModel`] when there are more than a search can hold.
    pub(super) fn new<'v>(specials: &[Special], bytes: impl Fn(u32) -> &'v [u8]) -> Result<Self> {
        let search = |specials: Vec<Special>| -> Result<Option<Search>> {
            // An empty text is found everywhere.
            let specials: Vec<Special> =
                specials.into_iter().filter(|special| !bytes(special.id).is_empty()).collect();
            if specials.is_empty() {
                return Ok(None);
            }
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .build(specials.iter().map(|special| bytes(special.id)))
                .map_err(|error| {
                    Error::new(Code::UnsupportedModel, "the tokenizer has too many special tokens")
                        .because(error)
                })?;
            Ok(Some(Search { automaton, specials }))
        };
        Ok(Specials {
            text: search(specials.iter().copied().filter(|special| !special.control).collect())?,
            all: search(specials.to_vec())?,
        })
    }

    /// Calls `fragment` with each part of the text, in order. Tokens win over text, the longest of those
    /// that begin at the same place.
    pub(super) fn partition<'t>(
        &self,
        text: &'t str,
        control: bool,
        mut fragment: impl FnMut(Fragment<'t>) -> Result<()>,
    ) -> Result<()> {
        let search = if control { &self.all } else { &self.text };
        let mut done = 0;
        if let Some(search) = search {
            for found in search.automaton.find_iter(text) {
                let special = search.specials[found.pattern().as_usize()];
                // A token whose text is not UTF-8 may be found inside a character.
                if !(text.is_char_boundary(found.start()) && text.is_char_boundary(found.end())) {
                    continue;
                }
                let mut before = text.get(done..found.start()).unwrap_or_default();
                if special.strip_before {
                    before = before.trim_end();
                }
                if !before.is_empty() {
                    fragment(Fragment::Text(before))?;
                }
                fragment(Fragment::Token(special.id))?;
                done = found.end();
                if special.strip_behind {
                    done += text[done..].len() - text[done..].trim_start().len();
                }
            }
        }
        match text.get(done..) {
            Some(rest) if !rest.is_empty() => fragment(Fragment::Text(rest)),
            _ => Ok(()),
        }
    }
}
