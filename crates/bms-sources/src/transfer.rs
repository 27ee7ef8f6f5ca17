//! One file on its way: from where it broke off, to where its digest is right.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bms_wire::{Code, Error, Result};
use ureq::http::HeaderMap;
use url::Url;

use crate::digest::{Expected, Hasher};
use crate::http::{Answer, Ask, Http, broken, shown};
use crate::plan::{Item, Place};
use crate::pull::Watch;
use crate::retry::{Failure, Tries};
use crate::staging::{Key, Staging};

/// Bytes moved at once.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a validator that is kept.
const TAG_BYTES_MAX: usize = 1024;

/// What all transfers of a pull share.
pub(crate) struct Transfers<'a> {
    pub(crate) http: &'a Http,
    pub(crate) staging: &'a Staging,
    pub(crate) watch: &'a dyn Watch,
    pub(crate) tries: Tries,
    /// Set when one failed: the others stop.
    pub(crate) stop: &'a AtomicBool,
    /// Bytes of all files, on disk by now.
    pub(crate) here: &'a AtomicU64,
    /// Bytes that files of unknown size may still have.
    pub(crate) budget: &'a AtomicU64,
}

/// A whole file, verified, under its key.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    /// Bytes that came over the network.
    pub(crate) moved: u64,
}

/// A file being written.
struct Part<'a> {
    file: File,
    path: std::path::PathBuf,
    item: &'a Item,
    hasher: Hasher,
    size: u64,
    moved: u64,
    /// Whether it begins with what an earlier connection brought.
    resumed: bool,
}

impl Transfers<'_> {
    /// Brings a file, or finds that it is here.
    ///
    /// # Errors
    /// [`Code::Tampered`] when it is not what it must be: what came is removed then; [`Code::TooLarge`]; what the source
    /// answers; errors of the disk.
    pub(crate) fn bring(&self, item: &Item) -> Result<Arrived> {
        let key = Key::of(item);
        let brought = match &item.place {
            Place::Local(from) => self.copy(item, &key, from),
            Place::Web { .. } => match self.at_hand(item, &key)? {
                Some(arrived) => return Ok(arrived),
                None => self.download(item, &key),
            },
        };
        brought.map_err(|e| e.while_doing(format_args!("pull `{}`", item.path)))
    }

    /// A file that an earlier try completed, or that another program fetched.
    fn at_hand(&self, item: &Item, key: &Key) -> Result<Option<Arrived>> {
        if item.expected == Expected::Unknown {
            // Whether it is still the same, the server tells when the end of it is asked for again.
            let (done, part) = (self.staging.done(key), self.staging.part(key));
            if done.exists() {
                std::fs::rename(&done, &part).map_err(|e| Error::io("take up", &done, e))?;
            }
            return Ok(None);
        }
        let done = self.staging.done(key);
        if done.exists() {
            if let Ok(sha256) = digest_of(&done, item, self.stop) {
                let size = std::fs::metadata(&done).map_err(|e| Error::io("examine", &done, e))?.len();
                self.advance(size);
                return Ok(Some(Arrived { size, sha256, moved: 0 }));
            }
            self.staging.forget(key)?;
        }
        let Some(cached) = &item.cached else { return Ok(None) };
        if digest_of(cached, item, self.stop).is_err() {
            return Ok(None);
        }
        // Verified again as a copy: the other program's file is not this one's to trust twice.
        match self.copy(item, key, cached) {
            Ok(arrived) => Ok(Some(arrived)),
            Err(error) if error.code() == Code::Tampered => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Copies a file of this machine.
    fn copy(&self, item: &Item, key: &Key, from: &Path) -> Result<Arrived> {
        self.staging.forget(key)?;
        let mut source = File::open(from).map_err(|e| Error::io("open", from, e))?;
        let mut part = Part::open(item, &self.staging.part(key), self.stop)?;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let n = source.read(&mut buffer).map_err(|e| Error::io("read", from, e))?;
            if n == 0 {
                break;
            }
            self.take(&mut part, &buffer[..n])?;
        }
        part.moved = 0;
        if item.size.is_some_and(|size| size != part.size) {
            return Err(Error::new(Code::Conflict, format!("`{}` was written to meanwhile", from.display())));
        }
        self.finish(part, key)
    }

    fn download(&self, item: &Item, key: &Key) -> Result<Arrived> {
        let mut part = Part::open(item, &self.staging.part(key), self.stop)?;
        self.rewind(&mut part, key)?;
        self.advance(part.size);
        let (mut tries, mut again) = (self.tries, true);
        loop {
            while item.size.is_none_or(|size| part.size < size) {
                let before = part.size;
                match self.one_connection(&mut part, key) {
                    Ok(()) => break,
                    Err(failure) => {
                        if before < part.size {
                            tries.progressed();
                        }
                        tries.again(failure)?;
                    }
                }
            }
            let resumed = part.resumed;
            match self.finish(part, key) {
                // Two halves of different files: once, all of it is asked for.
                Err(error) if error.code() == Code::Tampered && resumed && again => {
                    again = false;
                    self.watch.note(&format!("`{}` changed between two tries and begins anew", item.path));
                    part = Part::open(item, &self.staging.part(key), self.stop)?;
                }
                finished => return finished,
            }
        }
    }

    /// Without a known size, the last byte is asked for again: nobody can be asked for nothing. Without a digest, only a
    /// server that says the file is unchanged sends it alone.
    fn rewind(&self, part: &mut Part<'_>, key: &Key) -> Result<()> {
        if part.size == 0 {
            return Ok(());
        }
        let over = part.item.size.is_some_and(|size| size < part.size);
        if over || (part.item.expected == Expected::Unknown && read_tag(&self.staging.tag(key)).is_none()) {
            return part.restart();
        }
        if part.item.size.is_none() {
            let size = part.size - 1;
            part.file.set_len(size).map_err(|e| Error::io("shorten", &part.path, e))?;
            *part = Part::open(part.item, &part.path.clone(), self.stop)?;
        }
        Ok(())
    }

    /// Asks for what is missing, and takes what comes.
    fn one_connection(&self, part: &mut Part<'_>, key: &Key) -> Result<(), Failure> {
        let Place::Web { url, scope, commit } = &part.item.place else { return Ok(()) };
        let mut ask = Ask::get(url, scope.as_ref());
        let tag = read_tag(&self.staging.tag(key));
        if 0 < part.size {
            ask = ask.with("range", format!("bytes={}-", part.size));
            if let Some(tag) = &tag {
                ask = ask.with("if-range", tag.clone());
            }
        }
        let answer = self.http.send(&ask)?;
        check_source(&answer.first, part.item, commit.as_deref(), url)?;
        let validator = validator(&answer.headers);
        let goes_on = answer.status == 206
            && begin_of(&answer.headers, part.item.size) == Some(part.size)
            && (tag.is_none() || validator.is_none() || tag == validator);
        if 0 < part.size && !goes_on {
            self.retreat(part.size);
            part.restart()?;
            if answer.status != 200 {
                let what = format!("`{}` does not go on where the transfer broke off", shown(url));
                return Err(Failure::Passing(Error::new(Code::Unavailable, what), None));
            }
        } else if 0 < part.size {
            part.resumed = true;
        } else if answer.status != 200 && !goes_on {
            let what = format!("`{}` answers with a part nobody asked for", shown(url));
            return Err(Error::new(Code::Unavailable, what).into());
        }
        if !goes_on || validator.is_some() {
            write_tag(&self.staging.tag(key), validator.as_deref())?;
        }
        let promised = answer.length().map(|length| part.size.saturating_add(length));
        if let Err(error) = check_length(part.item, promised, url) {
            part.restart()?;
            return Err(error.into());
        }
        self.receive(part, answer, promised, url)
    }

    fn receive(
        &self,
        part: &mut Part<'_>,
        answer: Answer,
        promised: Option<u64>,
        url: &Url,
    ) -> Result<(), Failure> {
        let mut body = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let n = match body.read(&mut buffer) {
                Ok(n) => n,
                Err(e) => return Err(broken(url, ureq::Error::Io(e))),
            };
            if n == 0 {
                break;
            }
            self.take(part, &buffer[..n])?;
            part.moved += n as u64;
        }
        match part.item.size.or(promised) {
            Some(size) if part.size < size => {
                let what = format!("`{}` broke off after {} of {size} bytes", shown(url), part.size);
                Err(Failure::Passing(Error::new(Code::Unavailable, what), None))
            }
            _ => Ok(()),
        }
    }

    /// Keeps some bytes, if the file may have them.
    fn take(&self, part: &mut Part<'_>, bytes: &[u8]) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        let count = bytes.len() as u64;
        match part.item.size {
            Some(size) if size < part.size + count => {
                part.restart()?;
                let what = format!("more than the {size} bytes come that the source lists");
                return Err(Error::new(Code::Tampered, what).hint("What came was removed."));
            }
            Some(_) => {}
            None => {
                let spend = |left: u64| left.checked_sub(count);
                if self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_err() {
                    part.restart()?;
                    return Err(Error::new(Code::TooLarge, "more bytes come than are allowed")
                        .hint("What came was removed; raise the limit with --max-bytes."));
                }
            }
        }
        part.file.write_all(bytes).map_err(|e| Error::io("write", &part.path, e))?;
        part.hasher.update(bytes);
        part.size += count;
        self.advance(count);
        Ok(())
    }

    /// Checks the digest of a file that has come whole, and keeps it as such.
    fn finish(&self, part: Part<'_>, key: &Key) -> Result<Arrived> {
        let (size, moved) = (part.size, part.moved);
        let sha256 = match part.hasher.finish(&part.item.expected) {
            Ok(sha256) => sha256,
            Err(error) => {
                self.retreat(size);
                self.staging.forget(key)?;
                return Err(error);
            }
        };
        part.file.sync_all().map_err(|e| Error::io("write", &part.path, e))?;
        let done = self.staging.done(key);
        std::fs::rename(&part.path, &done).map_err(|e| Error::io("keep", &done, e))?;
        Ok(Arrived { size, sha256, moved })
    }

    fn advance(&self, bytes: u64) {
        self.watch.at(self.here.fetch_add(bytes, Ordering::Relaxed) + bytes);
    }

    fn retreat(&self, bytes: u64) {
        self.watch.at(self.here.fetch_sub(bytes, Ordering::Relaxed).saturating_sub(bytes));
    }
}

impl<'a> Part<'a> {
    /// Takes up what has arrived: its bytes are read again, since the digest is of all of them.
    fn open(item: &'a Item, path: &Path, stop: &AtomicBool) -> Result<Part<'a>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(|e| Error::io("open", path, e))?;
        let mut hasher = Hasher::new(&item.expected, item.size);
        let size = hash(&mut file, path, &mut hasher, stop)?;
        Ok(Part { file, path: path.to_owned(), item, hasher, size, moved: 0, resumed: 0 < size })
    }

    /// Forgets what has arrived.
    fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).map_err(|e| Error::io("empty", &self.path, e))?;
        self.file.seek(SeekFrom::Start(0)).map_err(|e| Error::io("empty", &self.path, e))?;
        self.hasher = Hasher::new(&self.item.expected, self.item.size);
        self.size = 0;
        self.resumed = false;
        Ok(())
    }
}

/// Hex SHA-256 of a file that is what `item` must be.
pub(crate) fn digest_of(path: &Path, item: &Item, stop: &AtomicBool) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let size = file.metadata().map_err(|e| Error::io("examine", path, e))?.len();
    if item.size.is_some_and(|wanted| wanted != size) {
        return Err(Error::new(Code::Tampered, format!("`{}` has another size", path.display())));
    }
    let mut hasher = Hasher::new(&item.expected, Some(size));
    hash(&mut file, path, &mut hasher, stop)?;
    hasher.finish(&item.expected)
}

fn hash(file: &mut File, path: &Path, hasher: &mut Hasher, stop: &AtomicBool) -> Result<u64> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut size = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(stopped());
        }
        match file.read(&mut buffer).map_err(|e| Error::io("read", path, e))? {
            0 => return Ok(size),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
        }
    }
}

/// Why a transfer ended that did nothing wrong.
pub(crate) fn stopped() -> Error {
    Error::new(Code::Unavailable, "another file failed")
}

/// Compares what the source says of a file with what it listed.
fn check_source(first: &HeaderMap, item: &Item, commit: Option<&str>, url: &Url) -> Result<()> {
    let differs = |what: &str| {
        Error::new(Code::Tampered, format!("`{}` sends another {what} than it lists", shown(url)))
            .hint("Try again; a source that changes under way has moved on.")
    };
    let said = Answer::text(first, "x-repo-commit");
    if commit.zip(said).is_some_and(|(wanted, said)| !said.eq_ignore_ascii_case(wanted)) {
        return Err(differs("commit"));
    }
    let linked = Answer::text(first, "x-linked-etag").map(|tag| tag.trim_matches('"'));
    if let (Expected::Sha256(wanted), Some(linked)) = (&item.expected, linked)
        && commit.is_some()
        && !linked.eq_ignore_ascii_case(wanted)
    {
        return Err(differs("digest"));
    }
    Ok(())
}

fn check_length(item: &Item, promised: Option<u64>, url: &Url) -> Result<()> {
    match item.size.zip(promised) {
        Some((size, promised)) if size != promised => {
            let what = format!("`{}` sends {promised} bytes, not {size} as listed", shown(url));
            Err(Error::new(Code::Tampered, what)
                .hint("The source contradicts itself; nothing of it was kept."))
        }
        _ => Ok(()),
    }
}

/// What tells one version of a file from the next: a strong entity tag, or a time (RFC 9110, 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = Answer::text(headers, "etag").filter(|tag| !tag.starts_with("W/"));
    let text = tag.or_else(|| Answer::text(headers, "last-modified"))?;
    (text.len() <= TAG_BYTES_MAX).then(|| text.to_owned())
}

/// Where a partial answer begins; `None` when its head is malformed or tells another size.
fn begin_of(headers: &HeaderMap, size: Option<u64>) -> Option<u64> {
    let range = Answer::text(headers, "content-range")?.strip_prefix("bytes ")?;
    let (range, total) = range.split_once('/')?;
    let (begin, end) = range.split_once('-')?;
    let (begin, end): (u64, u64) = (begin.parse().ok()?, end.parse().ok()?);
    let whole = match (size, total) {
        (_, "*") => true,
        (Some(size), total) => total.parse() == Ok(size) && end.checked_add(1) == Some(size),
        (None, total) => total.parse::<u64>().ok() == end.checked_add(1),
    };
    (whole && begin <= end).then_some(begin)
}

fn read_tag(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    (!text.is_empty() && text.len() <= TAG_BYTES_MAX).then_some(text)
}

/// Keeps the version before its first byte: an end of the program between the two costs a new beginning, never a mixture.
fn write_tag(path: &Path, tag: Option<&str>) -> Result<()> {
    let fresh = path.with_extension("tag-new");
    let write = || {
        std::fs::write(&fresh, tag.unwrap_or_default())?;
        std::fs::rename(&fresh, path)
    };
    write().map_err(|e| Error::io("write", path, e))
}
