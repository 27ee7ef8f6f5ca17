//! One sample in the log.
//!
//! ```text
//! mark 4 | length u32 | sequence u64 | length of the answer u32 | answer, JSON | picture | digest 16
//!                     └──────────────── length bytes ─────────────────────────┘
//! ```
//!
//! Integers are little-endian. The digest is the first half of BLAKE3 over everything between the
//! mark and it. A damaged record is passed over by looking for the next mark whose record is whole.

use bms_wire::{Code, Error, Result, limits};
use serde::{Deserialize, Serialize};

use super::Sample;

const MARK: [u8; 4] = [0xB5, b'O', b'B', 1];
const HEAD: usize = MARK.len() + 4;
const DIGEST: usize = 16;
/// Bytes before the answer.
const PREFIX: usize = 8 + 4;
/// Bytes of the answer in JSON; a longer label is not kept.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Bytes of a record between its length and its digest.
const LENGTH_MAX: usize = PREFIX + ANSWER_BYTES_MAX + limits::EDGE_SAMPLE_BYTES_MAX;

#[derive(Serialize, Deserialize)]
struct Answer {
    label: String,
    confidence: f32,
    version: u64,
    at_ms: i64,
}

/// A record read back.
#[derive(Debug, PartialEq)]
pub(super) struct Record {
    pub(super) sequence: u64,
    pub(super) sample: Sample,
}

/// Bytes of the record of `sample`, all but its sequence number, which is set on writing.
///
/// # Errors
/// [`Code::TooLarge`] for a picture over [`limits::EDGE_SAMPLE_BYTES_MAX`] or a label of many pages.
pub(super) fn encode(sample: &Sample) -> Result<Vec<u8>> {
    let Sample { image, label, confidence, version, at_ms } = sample;
    let answer = Answer { label: label.clone(), confidence: *confidence, version: *version, at_ms: *at_ms };
    let answer = serde_json::to_vec(&answer)
        .map_err(|e| Error::new(Code::Internal, "the sample cannot be written as JSON").because(e))?;
    if limits::EDGE_SAMPLE_BYTES_MAX < image.len() || ANSWER_BYTES_MAX < answer.len() {
        let message = format!("a sample of {} bytes is over the limit", image.len());
        return Err(Error::new(Code::TooLarge, message));
    }
    let length = PREFIX + answer.len() + image.len();
    let mut out = Vec::with_capacity(HEAD + length + DIGEST);
    out.extend_from_slice(&MARK);
    // Both lengths are within the limits above, far below u32.
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&(answer.len() as u32).to_le_bytes());
    out.extend_from_slice(&answer);
    out.extend_from_slice(image);
    out.extend_from_slice(&[0; DIGEST]);
    Ok(out)
}

/// Sets the sequence number of an encoded record, and its digest.
pub(super) fn seal(record: &mut [u8], sequence: u64) {
    record[HEAD..HEAD + 8].copy_from_slice(&sequence.to_le_bytes());
    let end = record.len() - DIGEST;
    let digest = digest(&record[MARK.len()..end]);
    record[end..].copy_from_slice(&digest);
}

fn digest(content: &[u8]) -> [u8; DIGEST] {
    let mut out = [0; DIGEST];
    out.copy_from_slice(&blake3::hash(content).as_bytes()[..DIGEST]);
    out
}

/// The record at the start of `bytes` and its length; `None` when there is none, or not whole.
pub(super) fn decode(bytes: &[u8]) -> Option<(Record, usize)> {
    let rest = bytes.strip_prefix(&MARK)?;
    let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
    if !(PREFIX..=LENGTH_MAX).contains(&length) || rest.len() < 4 + length + DIGEST {
        return None;
    }
    let (content, tail) = rest.split_at(4 + length);
    if digest(content) != tail[..DIGEST] {
        return None;
    }
    let (sequence, rest) = content[4..].split_first_chunk()?;
    let (answer_length, rest) = rest.split_first_chunk()?;
    let (answer, image) = rest.split_at_checked(u32::from_le_bytes(*answer_length) as usize)?;
    let Answer { label, confidence, version, at_ms } = serde_json::from_slice(answer).ok()?;
    let sample = Sample { image: image.to_vec(), label, confidence, version, at_ms };
    Some((Record { sequence: u64::from_le_bytes(*sequence), sample }, HEAD + length + DIGEST))
}

/// Calls `found` with every whole record, its offset and its length. Returns how many stretches of
/// bytes between or after them are no records: damage, or the torn end of a write that was cut off.
pub(super) fn scan(bytes: &[u8], mut found: impl FnMut(Record, usize, usize)) -> u64 {
    let (mut at, mut damaged, mut in_damage) = (0, 0, false);
    while at < bytes.len() {
        if let Some((record, length)) = decode(&bytes[at..]) {
            found(record, at, length);
            at += length;
            in_damage = false;
            continue;
        }
        damaged += u64::from(!in_damage);
        in_damage = true;
        let next = bytes[at + 1..].windows(MARK.len()).position(|window| window == MARK);
        at = next.map_or(bytes.len(), |next| at + 1 + next);
    }
    damaged
}
