//! What is where in the log.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::Bounds;

/// BLAKE3 of a picture.
pub(super) type Id = [u8; 32];

/// Whether a sample may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It is queued already, or (`false`) being written.
    Known(bool),
    /// Room was reserved for it.
    New,
    /// There is no room.
    Full,
}

/// Where one queued record lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) sequence: u64,
    id: Id,
    /// The segment's first sequence number.
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) length: usize,
}

#[derive(Debug, Default)]
struct Segment {
    bytes: u64,
    /// Records in it that are not acknowledged.
    waiting: usize,
    /// Whether a group is being written to it now.
    writing: bool,
}

/// The log's contents: `places` holds what is queued, in order; `present` that and what is being
/// written, by picture.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: VecDeque<Place>,
    /// `true` once queued.
    present: HashMap<Id, bool>,
    segments: BTreeMap<u64, Segment>,
    /// Bytes of the segments and of what is being written.
    bytes: u64,
    /// The last sequence number used.
    last: u64,
    acknowledged: u64,
}

impl Index {
    /// Empty, with everything up to this sequence number delivered.
    pub(super) fn after(acknowledged: u64) -> Index {
        Index { last: acknowledged, acknowledged, ..Index::default() }
    }

    /// Adds a segment found on disk with its records. False when nothing in it is waiting.
    pub(super) fn restore(&mut self, segment: u64, bytes: u64, records: Vec<(u64, Id, u64, usize)>) -> bool {
        let mut waiting = 0;
        // Names of segments must stay new, too, even when none of their records survived.
        self.last = self.last.max(segment);
        for (sequence, id, offset, length) in records {
            self.last = self.last.max(sequence);
            // A group whose flush failed may be on disk all the same, and was perhaps offered again.
            if sequence <= self.acknowledged || self.present.insert(id, true).is_some() {
                continue;
            }
            self.places.push_back(Place { sequence, id, segment, offset, length });
            waiting += 1;
        }
        if waiting == 0 {
            return false;
        }
        self.bytes += bytes;
        self.segments.insert(segment, Segment { bytes, waiting, writing: false });
        true
    }

    /// Reserves room for a record of `size` bytes.
    pub(super) fn reserve(&mut self, id: Id, size: u64, bounds: &Bounds) -> Presence {
        if let Some(&queued) = self.present.get(&id) {
            return Presence::Known(queued);
        }
        if bounds.samples_max <= self.present.len() || bounds.bytes_max < self.bytes + size {
            return Presence::Full;
        }
        self.present.insert(id, false);
        self.bytes += size;
        Presence::New
    }

    /// Gives reserved room back.
    pub(super) fn release(&mut self, id: &Id, size: u64) {
        self.present.remove(id);
        self.bytes = self.bytes.saturating_sub(size);
    }

    /// The next sequence numbers, `count` of them; gives the first.
    pub(super) fn number(&mut self, count: usize) -> u64 {
        let first = self.last + 1;
        self.last += count as u64;
        first
    }

    /// Begins writing to `segment`, if it is still there: it cannot be removed until
    /// [`Index::written`]. Gives the offset to write at.
    pub(super) fn begin(&mut self, segment: u64) -> Option<u64> {
        let segment = self.segments.get_mut(&segment)?;
        segment.writing = true;
        Some(segment.bytes)
    }

    /// A new segment, being written to.
    pub(super) fn begin_new(&mut self, segment: u64) {
        self.segments.insert(segment, Segment { writing: true, ..Segment::default() });
    }

    /// A group was flushed: records of these lengths, from `first` on, at the segment's end.
    pub(super) fn written(&mut self, segment: u64, first: u64, records: &[(Id, usize)]) {
        let Some(state) = self.segments.get_mut(&segment) else { return };
        state.writing = false;
        for (sequence, &(id, length)) in (first..).zip(records) {
            self.present.insert(id, true);
            self.places.push_back(Place { sequence, id, segment, offset: state.bytes, length });
            state.bytes += length as u64;
            state.waiting += 1;
        }
    }

    /// A group could not be written. True when the segment holds nothing else and can be removed.
    pub(super) fn failed(&mut self, segment: u64, records: &[(Id, usize)]) -> bool {
        for (id, length) in records {
            self.release(id, *length as u64);
        }
        let Some(state) = self.segments.get_mut(&segment) else { return false };
        state.writing = false;
        let empty = state.waiting == 0;
        if empty {
            self.bytes = self.bytes.saturating_sub(state.bytes);
            self.segments.remove(&segment);
        }
        empty
    }

    /// The oldest places, at most `samples_max`, and none more once they reach `bytes_max`.
    pub(super) fn oldest(&self, samples_max: usize, bytes_max: u64) -> Vec<Place> {
        let mut bytes = 0;
        let within = |place: &&Place| {
            let fits = bytes < bytes_max;
            bytes += place.length as u64;
            fits
        };
        self.places.iter().take(samples_max).take_while(within).copied().collect()
    }

    /// Forgets everything up to `through`. Gives the segments that are done with.
    pub(super) fn acknowledge(&mut self, through: u64) -> Vec<u64> {
        self.acknowledged = self.acknowledged.max(through);
        while let Some(place) = self.places.pop_front_if(|place| place.sequence <= through) {
            self.present.remove(&place.id);
            if let Some(segment) = self.segments.get_mut(&place.segment) {
                segment.waiting -= 1;
            }
        }
        let idle = |segment: &Segment| segment.waiting == 0 && !segment.writing;
        let done: Vec<u64> = self.segments.iter().filter(|(_, s)| idle(s)).map(|(&first, _)| first).collect();
        for first in &done {
            if let Some(segment) = self.segments.remove(first) {
                self.bytes = self.bytes.saturating_sub(segment.bytes);
            }
        }
        done
    }

    pub(super) fn len(&self) -> usize {
        self.present.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
