//! Byte pair encoding: neighbours are joined in the order in which the merges were learned.
//!
//! Works on bytes: the vocabulary's printable alphabet is translated once, when a model is loaded.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use bms_wire::{Code, Error, Result};

use super::split::Splitter;
use super::vocabulary::{Index, TokenKind, Vocabulary};

/// No token, or the end of a chain.
const NONE: u32 = u32::MAX;

/// Merges of a vocabulary.
#[derive(Debug)]
pub(super) struct Bpe {
    splitter: Splitter,
    /// The token of each byte.
    bytes: Box<[u32; 256]>,
    merges: HashMap<u64, Merge, BuildHasherDefault<Mix>>,
    /// Finds a whole word, where a word that is a token is taken as such.
    words: Option<Index>,
}

/// What two neighbours become.
#[derive(Clone, Copy, Debug)]
struct Merge {
    rank: u32,
    id: u32,
}

/// Spreads a pair of token numbers; the table is fixed once a model is loaded.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let product = u128::from(self.0 ^ value ^ 0x9E37_79B9_7F4A_7C15) * 0xD6E8_FEB8_6659_FD93;
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    /// Reads the merges, `left right` each, in the vocabulary's alphabet.
    ///
    /// `places` finds a token by its text in that alphabet. Errors: [`Code::InvalidBundle`] for a merge of
    /// tokens that the vocabulary does not have.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        places: &HashMap<&[u8], u32>,
        merges: &[&[u8]],
        splitter: Splitter,
        whole_words: bool,
    ) -> Result<Self> {
        let mut table = HashMap::with_capacity_and_hasher(merges.len(), BuildHasherDefault::default());
        for (rank, merge) in merges.iter().enumerate() {
            let (left, right, joined) = parts(merge, places).ok_or_else(|| {
                Error::new(
                    Code::InvalidBundle,
                    format!(
                        "merge {rank} of the tokenizer, `{}`, is of tokens that the vocabulary does not have",
                        String::from_utf8_lossy(merge)
                    ),
                )
            })?;
            table.entry(pair(left, right)).or_insert(Merge { rank: rank as u32, id: joined });
        }
        let mut bytes = Box::new([NONE; 256]);
        for id in vocabulary.ids().rev() {
            if let ([byte], Some(TokenKind::Normal)) = (vocabulary.bytes(id), vocabulary.kind(id)) {
                bytes[*byte as usize] = id;
            }
        }
        let words = whole_words.then(|| Index::new(vocabulary, |kind| kind == TokenKind::Normal));
        Ok(Bpe { splitter, bytes, merges: table, words })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, vocabulary: &Vocabulary, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let mut chain = Chain::default();
        self.splitter.split(text, |word| {
            let whole = self.words.as_ref().and_then(|words| words.find(vocabulary, word.as_bytes()));
            match whole {
                Some(id) => ids.push(id),
                None => self.word(word.as_bytes(), &mut chain, ids),
            }
        })
    }

    /// Appends the tokens of a word. A byte without a token is left out, as the reference does.
    fn word(&self, word: &[u8], chain: &mut Chain, ids: &mut Vec<u32>) {
        chain.begin(word.iter().map(|byte| self.bytes[*byte as usize]).filter(|id| *id != NONE));
        for at in 1..chain.ids.len() {
            self.offer(chain, at as u32 - 1);
        }
        while let Some(Reverse(candidate)) = chain.queue.pop() {
            let (rank, at) = ((candidate >> 32) as u32, candidate as u32);
            let next = chain.next[at as usize];
            // A candidate whose parts were joined to others meanwhile has another rank, or none.
            let found = (next != NONE)
                .then(|| self.merges.get(&pair(chain.ids[at as usize], chain.ids[next as usize])))
                .flatten();
            let Some(merge) = found.filter(|merge| merge.rank == rank) else { continue };
            chain.join(at, merge.id);
            self.offer(chain, at);
            let before = chain.before[at as usize];
            if before != NONE {
                self.offer(chain, before);
            }
        }
        ids.extend(chain.ids.iter().filter(|id| **id != NONE));
    }

    /// Queues the merge of the part at `at` with the next one, when there is such a merge.
    fn offer(&self, chain: &mut Chain, at: u32) {
        let next = chain.next[at as usize];
        if next == NONE {
            return;
        }
        if let Some(merge) = self.merges.get(&pair(chain.ids[at as usize], chain.ids[next as usize])) {
            // The lowest rank first, of equals the leftmost.
            chain.queue.push(Reverse(u64::from(merge.rank) << 32 | u64::from(at)));
        }
    }
}

/// The tokens of `left right` and of what they become. A space can be no part of a token in the alphabet,
/// but the first character may be one in vocabularies without it.
fn parts(merge: &[u8], places: &HashMap<&[u8], u32>) -> Option<(u32, u32, u32)> {
    let space = 1 + merge.get(1..)?.iter().position(|byte| *byte == b' ')?;
    let (left, right) = (&merge[..space], &merge[space + 1..]);
    let joined = [left, right].concat();
    Some((*places.get(left)?, *places.get(right)?, *places.get(joined.as_slice())?))
}

/// The parts of a word as a chain; joined parts leave a hole. Kept between words for its memory.
#[derive(Default)]
struct Chain {
    ids: Vec<u32>,
    before: Vec<u32>,
    next: Vec<u32>,
    queue: BinaryHeap<Reverse<u64>>,
}

impl Chain {
    fn begin(&mut self, ids: impl Iterator<Item = u32>) {
        self.ids.clear();
        self.ids.extend(ids);
        self.queue.clear();
        let length = self.ids.len() as u32;
        self.before.clear();
        self.before.extend((0..length).map(|at| at.checked_sub(1).unwrap_or(NONE)));
        self.next.clear();
        self.next.extend((1..=length).map(|at| if at == length { NONE } else { at }));
    }

    /// Joins the part at `at` with the next one.
    fn join(&mut self, at: u32, id: u32) {
        let next = self.next[at as usize];
        let after = self.next[next as usize];
        self.ids[at as usize] = id;
        self.ids[next as usize] = NONE;
        self.next[at as usize] = after;
        self.next[next as usize] = NONE;
        if after != NONE {
            self.before[after as usize] = at;
        }
    }
}
