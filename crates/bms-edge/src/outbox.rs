//! Samples on their way to the centre, kept through crashes, kills and power cuts.
//!
//! A log of segments, each a file of checksummed records. One thread appends: it takes everything
//! that waits, writes it at once and flushes once (group commit), then tells the offerers. What was
//! flushed is *queued*: it is lost only when the centre has taken it, or the disk is. Delivery goes
//! from the oldest on; a segment whose records are all delivered is removed.
//!
//! After a stop at any point, a record is there whole or not at all: a torn end is passed over, and
//! appending goes on in a fresh segment. Nothing is ever written after a torn end.
//!
//! When it is full, the *newest* sample is refused and counted: an older one was promised to be kept.

mod index;
mod record;
mod writer;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use bms_wire::{Code, Error, Result, limits};

use crate::durable;
use index::{Id, Index, Place, Presence};
use writer::Job;

/// Samples handed to the writer and not taken by it yet. With the largest pictures that is 64 MiB.
const WAITING_MAX: usize = 64;

/// A picture the model was unsure of, with what it answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    /// The PNG or JPEG as it was received.
    pub(crate) image: Vec<u8>,
    /// The best label.
    pub(crate) label: String,
    /// Its probability.
    pub(crate) confidence: f32,
    /// The version that answered.
    pub(crate) version: u64,
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
}

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) samples_max: usize,
    /// Bytes on disk.
    pub(crate) bytes_max: u64,
    /// Bytes after which a new segment is begun.
    pub(crate) segment_bytes: u64,
}

impl Bounds {
    pub(crate) fn new(bytes_max: u64) -> Bounds {
        Bounds { samples_max: limits::EDGE_OUTBOX_SAMPLES_MAX, bytes_max, segment_bytes: 4 << 20 }
    }
}

/// What became of a sample that was offered.
#[derive(Debug)]
pub(crate) enum Offered {
    /// The same picture, known by its digest, is queued already, or (`false`) being written.
    Known(bool),
    /// It is being written; `true` comes once it is queued, `false` when the disk refused it.
    Writing(Receiver<bool>),
    /// It was not kept, and counted in [`Counts`].
    Refused,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Refused because the outbox is full, or the disk too slow to keep up.
    pub(crate) full: AtomicU64,
    /// Refused because the picture is over [`limits::EDGE_SAMPLE_BYTES_MAX`].
    pub(crate) too_large: AtomicU64,
    /// Refused because the disk could not be written.
    pub(crate) failed: AtomicU64,
    /// Stretches of damage, torn ends among them, found when reading.
    pub(crate) damaged: AtomicU64,
}

/// The oldest samples.
#[derive(Debug, Default)]
pub(crate) struct Oldest {
    /// Hex BLAKE3 of the picture and the sample, oldest first.
    pub(crate) samples: Vec<(String, Sample)>,
    /// What to give to [`Outbox::acknowledge`] once all of them are delivered.
    pub(crate) through: u64,
}

/// What the writer, the offerers and the deliverer share.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    bounds: Bounds,
    index: Mutex<Index>,
    counts: Counts,
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while it is half changed: the index is only touched by its own methods.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn segment(&self, first: u64) -> PathBuf {
        self.dir.join(format!("{first:020}.log"))
    }

    fn acknowledged_file(&self) -> PathBuf {
        self.dir.join("acknowledged")
    }
}

/// The outbox in a folder of its own.
#[derive(Debug)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
}

#[derive(Debug)]
struct Writer {
    sender: SyncSender<Job>,
    thread: JoinHandle<()>,
}

impl Outbox {
    /// Opens the outbox in `dir`, with what earlier runs left there. `queued` is called, on the
    /// writer's thread, whenever samples were queued.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub(crate) fn open(dir: &Path, bounds: Bounds, queued: impl Fn() + Send + 'static) -> Result<Outbox> {
        durable::make_folder(dir)?;
        let shared =
            Shared { dir: dir.to_owned(), bounds, index: Mutex::default(), counts: Counts::default() };
        let index = recover(&shared)?;
        *shared.index() = index;
        let shared = Arc::new(shared);
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("bms-outbox".to_owned())
            .spawn(move || writer::run(&of_thread, &receiver, &queued))
            .map_err(|e| Error::new(Code::Internal, "the outbox's thread cannot be started").because(e))?;
        Ok(Outbox { shared, writer: Mutex::new(Some(Writer { sender, thread })) })
    }

    /// Offers a sample. Never waits for the disk.
    pub(crate) fn offer(&self, sample: &Sample) -> Offered {
        let counts = self.counts();
        let Ok(record) = record::encode(sample) else {
            counts.too_large.fetch_add(1, Ordering::Relaxed);
            return Offered::Refused;
        };
        let id = *blake3::hash(&sample.image).as_bytes();
        let size = record.len() as u64;
        match self.shared.index().reserve(id, size, &self.shared.bounds) {
            Presence::Known(queued) => return Offered::Known(queued),
            Presence::Full => {
                counts.full.fetch_add(1, Ordering::Relaxed);
                return Offered::Refused;
            }
            Presence::New => {}
        }
        let (reply, answer) = sync_channel(1);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match &*writer {
            Some(writer) => writer.sender.try_send(Job { id, record, reply }),
            None => Err(TrySendError::Disconnected(Job { id, record, reply })),
        };
        if sent.is_err() {
            self.shared.index().release(&id, size);
            counts.full.fetch_add(1, Ordering::Relaxed);
            return Offered::Refused;
        }
        Offered::Writing(answer)
    }

    /// The oldest queued samples: at most `samples_max`, and no more once their pictures reach
    /// `bytes_max`. Damaged ones are passed over, and gone with the acknowledgement.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub(crate) fn oldest(&self, samples_max: usize, bytes_max: usize) -> Result<Oldest> {
        let places = self.shared.index().oldest(samples_max, bytes_max as u64);
        let mut oldest = Oldest::default();
        let mut open: Option<(u64, File)> = None;
        for place in places {
            let path = self.shared.segment(place.segment);
            let bytes = match read_at(&mut open, &path, &place) {
                Ok(bytes) => bytes,
                // Someone removed or cut the file; that must not hold up what came after.
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof) => Vec::new(),
                Err(e) => return Err(Error::io("read", &path, e)),
            };
            oldest.through = place.sequence;
            match record::decode(&bytes) {
                Some((record, _)) => {
                    let id = blake3::hash(&record.sample.image).to_hex().to_string();
                    oldest.samples.push((id, record.sample));
                }
                None => {
                    tracing::error!(segment = %path.display(), "a sample in the outbox is damaged and passed over");
                    self.counts().damaged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(oldest)
    }

    /// Forgets every sample up to and with this sequence number.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin; then they are delivered again, which stores nothing twice.
    pub(crate) fn acknowledge(&self, through: u64) -> Result<()> {
        // The number first: should removing be cut off, the removed must stay forgotten.
        write_acknowledged(&self.shared.acknowledged_file(), through)?;
        let done = self.shared.index().acknowledge(through);
        done.iter().try_for_each(|&segment| durable::remove_file(&self.shared.segment(segment)))
    }

    /// Samples queued or being written.
    pub(crate) fn len(&self) -> usize {
        self.shared.index().len()
    }

    /// Bytes on disk, or about to be.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.index().bytes()
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// Writes what waits, then takes no more.
    pub(crate) fn close(&self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Writer { sender, thread }) = writer {
            drop(sender);
            if thread.join().is_err() {
                tracing::error!("the outbox's thread panicked");
            }
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.close();
    }
}

/// The bytes of one record; `open` is the segment read before.
fn read_at(open: &mut Option<(u64, File)>, path: &Path, place: &Place) -> io::Result<Vec<u8>> {
    let mut file = match open.take() {
        Some((segment, file)) if segment == place.segment => file,
        _ => File::open(path)?,
    };
    let mut bytes = vec![0; place.length];
    file.seek(SeekFrom::Start(place.offset))?;
    file.read_exact(&mut bytes)?;
    *open = Some((place.segment, file));
    Ok(bytes)
}

/// Reads what earlier runs left.
fn recover(shared: &Shared) -> Result<Index> {
    let acknowledged = read_acknowledged(&shared.acknowledged_file())?;
    let mut index = Index::after(acknowledged);
    for first in segments(&shared.dir)? {
        let path = shared.segment(first);
        let bytes = fs::read(&path).map_err(|e| Error::io("read", &path, e))?;
        let mut entries = Vec::new();
        let damaged = record::scan(&bytes, |record, offset, length| {
            let id: Id = *blake3::hash(&record.sample.image).as_bytes();
            entries.push((record.sequence, id, offset as u64, length));
        });
        if damaged != 0 {
            tracing::warn!(segment = %path.display(), damaged, "the outbox holds damaged or unfinished records");
            shared.counts.damaged.fetch_add(damaged, Ordering::Relaxed);
        }
        if !index.restore(first, bytes.len() as u64, entries) {
            durable::remove_file(&path)?;
        }
    }
    Ok(index)
}

/// First sequence numbers of the segments in `dir`, ascending.
fn segments(dir: &Path) -> Result<Vec<u64>> {
    let cannot = |e| Error::io("list", dir, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(cannot)? {
        let name = entry.map_err(cannot)?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The number, then its BLAKE3.
fn write_acknowledged(path: &Path, through: u64) -> Result<()> {
    let number = through.to_le_bytes();
    durable::replace(path, &[&number[..], blake3::hash(&number).as_bytes()].concat())
}

/// Zero when the file is missing or damaged: then delivered samples may be delivered again.
fn read_acknowledged(path: &Path) -> Result<u64> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(Error::io("read", path, e)),
    };
    match bytes.split_first_chunk() {
        Some((number, hash)) if blake3::hash(number).as_bytes() == hash => Ok(u64::from_le_bytes(*number)),
        _ => {
            tracing::warn!("the outbox's mark of what was delivered is damaged; some may be delivered again");
            Ok(0)
        }
    }
}

#[cfg(test)]
mod tests;
