//! SentencePiece vocabularies: neighbours are joined in the order of the joined piece's score.
//!
//! Source: the BPE mode of <https://github.com/google/sentencepiece>; what no piece can write becomes bytes.

use std::collections::{BinaryHeap, HashMap};

use bms_wire::{Code, Error, Result};

use super::vocabulary::{TokenKind, Vocabulary};

/// Stands for a space inside pieces.
pub(super) const SPACE: &str = "\u{2581}";

const NONE: u32 = u32::MAX;

/// Scores and byte tokens of a vocabulary. Pieces are kept with plain spaces.
#[derive(Debug)]
pub(super) struct Pieces {
    places: HashMap<Box<[u8]>, u32>,
    scores: Vec<f32>,
    /// The token of each byte.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    /// Whether a space goes in front of a text.
    pub(super) space_prefix: bool,
}

/// A part of the text.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    length: usize,
    before: u32,
    next: u32,
}

/// Two neighbours that make a piece. The highest score first, of equals the leftmost.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: u32,
    right: u32,
    length: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Pieces {
    /// Errors: [`Code::InvalidBundle`] when the scores are missing or some bytes have a token and others not.
    pub(super) fn new(
        vocabulary: &Vocabulary,
        scores: Vec<f32>,
        unknown: Option<u32>,
        space_prefix: bool,
    ) -> Result<Self> {
        let broken = |message: String| Err(Error::new(Code::InvalidBundle, message));
        if scores.len() < vocabulary.len() {
            return broken(format!(
                "the tokenizer has {} scores for {} pieces",
                scores.len(),
                vocabulary.len()
            ));
        }
        // Control tokens are no text: a text that looks like one must not become one.
        let text = |kind| matches!(kind, TokenKind::Normal | TokenKind::UserDefined | TokenKind::Unused);
        let places = vocabulary.places(text).into_iter().map(|(bytes, id)| (Box::from(bytes), id)).collect();
        let mut bytes = Box::new([NONE; 256]);
        for id in vocabulary.ids().rev().filter(|id| vocabulary.kind(*id) == Some(TokenKind::Byte)) {
            if let [byte] = vocabulary.bytes(id) {
                bytes[*byte as usize] = id;
            }
        }
        let bytes = match bytes.iter().filter(|id| **id != NONE).count() {
            256 => Some(bytes),
            0 => None,
            some => return broken(format!("the tokenizer has tokens for {some} of 256 bytes")),
        };
        if bytes.is_none() && unknown.is_none() {
            return broken("the tokenizer has neither byte tokens nor an unknown token".into());
        }
        Ok(Pieces { places, scores, bytes, unknown, space_prefix })
    }

    /// Appends the tokens of a text.
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let text = text.as_bytes();
        let mut parts = characters(text);
        let mut queue = BinaryHeap::new();
        for right in 1..parts.len() as u32 {
            self.offer(text, &parts, right - 1, right, &mut queue);
        }
        while let Some(pair) = queue.pop() {
            let (left, right) = (parts[pair.left as usize], parts[pair.right as usize]);
            // Parts that were joined to others meanwhile are longer, or have no length any more.
            if left.length == 0 || right.length == 0 || left.length + right.length != pair.length {
                continue;
            }
            parts[pair.left as usize].length = pair.length;
            parts[pair.left as usize].next = right.next;
            parts[pair.right as usize].length = 0;
            if right.next != NONE {
                parts[right.next as usize].before = pair.left;
                self.offer(text, &parts, pair.left, right.next, &mut queue);
            }
            if left.before != NONE {
                self.offer(text, &parts, left.before, pair.left, &mut queue);
            }
        }
        for part in parts.iter().filter(|part| part.length != 0) {
            self.emit(&text[part.start..part.start + part.length], ids);
        }
    }

    fn offer(&self, text: &[u8], parts: &[Part], left: u32, right: u32, queue: &mut BinaryHeap<Pair>) {
        let (first, second) = (parts[left as usize], parts[right as usize]);
        let length = first.length + second.length;
        if let Some(id) = self.places.get(&text[first.start..first.start + length]) {
            queue.push(Pair { score: self.scores[*id as usize], left, right, length });
        }
    }

    fn emit(&self, piece: &[u8], ids: &mut Vec<u32>) {
        if let Some(id) = self.places.get(piece) {
            ids.push(*id);
        } else if let Some(bytes) = &self.bytes {
            ids.extend(piece.iter().map(|byte| bytes[*byte as usize]));
        } else if let Some(unknown) = self.unknown {
            ids.push(unknown);
        }
    }
}

/// The characters of a text as a chain.
fn characters(text: &[u8]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (start, byte) in text.iter().enumerate() {
        let first = !matches!(byte, 0x80..=0xBF);
        match parts.last_mut() {
            Some(part) if !first => part.length += 1,
            _ => {
                let index = parts.len() as u32;
                parts.push(Part {
                    start,
                    length: 1,
                    before: index.checked_sub(1).unwrap_or(NONE),
                    next: index + 1,
                });
            }
        }
    }
    if let Some(last) = parts.last_mut() {
        last.next = NONE;
    }
    parts
}
