//! The thread that appends.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};

use super::index::Id;
use super::{Shared, WAITING_MAX, record};
use crate::durable;

/// One sample to append.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Id,
    pub(super) record: Vec<u8>,
    pub(super) reply: SyncSender<bool>,
}

/// The segment appended to.
struct Active {
    first: u64,
    file: File,
}

/// Appends until all senders are gone.
pub(super) fn run(shared: &Shared, receiver: &Receiver<Job>, queued: &impl Fn()) {
    let mut active = None;
    while let Ok(first) = receiver.recv() {
        // What came while the last group was flushed is flushed together; nothing waits for more.
        let group: Vec<Job> = std::iter::once(first).chain(receiver.try_iter().take(WAITING_MAX)).collect();
        let done = append(shared, &mut active, group);
        if done {
            queued();
        }
    }
}

/// Writes and flushes one group, then tells its offerers. False when the disk refused it.
fn append(shared: &Shared, active: &mut Option<Active>, group: Vec<Job>) -> bool {
    let first = shared.index().number(group.len());
    let mut bytes = Vec::new();
    let (mut records, mut replies) = (Vec::new(), Vec::new());
    for (sequence, Job { id, mut record, reply }) in (first..).zip(group) {
        record::seal(&mut record, sequence);
        bytes.extend_from_slice(&record);
        records.push((id, record.len()));
        replies.push(reply);
    }
    let (segment, result) = write(shared, active, first, &bytes);
    let written = match result {
        Ok(()) => {
            shared.index().written(segment, first, &records);
            true
        }
        Err(error) => {
            tracing::error!(samples = records.len(), "failed to write to the outbox: {error}");
            shared.counts.failed.fetch_add(records.len() as u64, Ordering::Relaxed);
            // Nothing is written after what may be a torn end.
            *active = None;
            if shared.index().failed(segment, &records) {
                let removed = durable::remove_file(&shared.segment(segment));
                removed.unwrap_or_else(|e| tracing::warn!("an empty segment stays: {e}"));
            }
            false
        }
    };
    for reply in replies {
        // An offerer that did not wait is fine.
        let _ = reply.send(written);
    }
    written
}

/// Writes to the active segment, or begins one. Gives the segment written to.
fn write(shared: &Shared, active: &mut Option<Active>, first: u64, bytes: &[u8]) -> (u64, io::Result<()>) {
    let place = active.as_ref().and_then(|active| {
        // Gone from the index: everything in it was delivered, and its file removed.
        let offset = shared.index().begin(active.first)?;
        Some((active.first, offset))
    });
    match (place, active.as_mut()) {
        (Some((segment, offset)), Some(current)) if offset < shared.bounds.segment_bytes => {
            let result = flush(&mut current.file, offset, bytes);
            if result.is_err() {
                // Best effort: what is left beyond is passed over on reading.
                let _ = current.file.set_len(offset);
            }
            (segment, result)
        }
        (place, _) => {
            if let Some((full, _)) = place {
                shared.index().written(full, first, &[]);
            }
            (first, begin(shared, active, first, bytes))
        }
    }
}

fn begin(shared: &Shared, active: &mut Option<Active>, first: u64, bytes: &[u8]) -> io::Result<()> {
    shared.index().begin_new(first);
    let mut file = OpenOptions::new().write(true).create_new(true).open(shared.segment(first))?;
    flush(&mut file, 0, bytes)?;
    File::open(&shared.dir)?.sync_all()?;
    *active = Some(Active { first, file });
    Ok(())
}

fn flush(file: &mut File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)?;
    file.sync_data()
}
