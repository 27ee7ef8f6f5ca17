//! Sealing a verified bundle, and writing one out again.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bms_wire::{Code, Error, Pipeline, Postprocess, Preprocess, Result};

use super::cipher::{DataKey, Place, SealId, SealKeys, TAG_BYTES, random};
use super::header::{CHUNK_BYTES, FilePlace, Header, Layout, Preamble, SealedFile};
use super::pieces::each_piece;
use super::{ENVELOPE, Envelope, SEALED, ScanRecord, SealInfo, To};
use crate::{Content, Draft, MANIFEST, Manifest, SigningKey, Verified, draft};

/// Chunks a thread encrypts before it writes them.
const PIECE_CHUNKS: u64 = 16;

/// How a bundle is sealed.
#[derive(Debug)]
pub struct SealOptions<'a> {
    /// Who may open it.
    pub to: &'a [To],
    /// Whose signature vouches for the sealed bundle and its envelope.
    pub signer: &'a SigningKey,
    /// Takes the place of a bundle that is already there.
    pub replace: bool,
    /// Milliseconds since 1970, noted as the time of the scan.
    pub now_ms: i64,
}

/// Seals a bundle that passed the gate, hence the scan, into the folder `dir`. Returns the sealed bundle's manifest.
///
/// # Errors
/// [`Code::InvalidRequest`] for what is no bundle, is sealed already, or for nobody; [`Code::Conflict`] when `dir`
/// exists or a file was written to meanwhile; [`Code::StorageFull`] or [`Code::Io`].
pub fn seal_to(verified: &Verified, dir: &Path, options: &SealOptions<'_>) -> Result<Manifest> {
    let doing = |e: Error| e.while_doing(format_args!("seal the bundle into `{}`", dir.display()));
    if verified.seal().is_some() {
        let what = "the bundle is sealed already";
        return Err(Error::new(Code::InvalidRequest, what)
            .hint("`bms rekey` changes who can open it; `bms unseal` writes it out in plain."));
    }
    if verified.file(MANIFEST).is_none() {
        return Err(Error::new(Code::InvalidRequest, "a model without a manifest cannot be sealed")
            .hint("Make a signed bundle of it with `bms package`."));
    }
    if options.to.is_empty() {
        return Err(Error::new(Code::InvalidRequest, "nobody could open the sealed bundle")
            .hint("Name at least one key, passphrase file or service to seal it for."));
    }
    let mut seal = SealId::default();
    random(&mut seal)?;
    let key = DataKey::generate()?;
    let keys = SealKeys::derive(&key, &seal);
    let parent = dir.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(|e| Error::io("create the folder", parent, e))?;
    let staging = tempfile::Builder::new().prefix(".seal-").tempdir_in(parent);
    let staging = staging.map_err(|e| Error::io("create a folder in", parent, e))?;
    let data = staging.path().join(SEALED);
    encrypt(verified, &seal, &keys, &data).map_err(doing)?;
    verified.recheck()?;

    let info = SealInfo::new(&seal, verified.digest(), keys.commitment(), record(verified, options.now_ms));
    let name = &verified.manifest().name;
    let envelope = Envelope::write(&info, name, &key, (Vec::new(), options.to), 1, options.signer)?;
    let mut draft = Draft::new(outside(verified.manifest(), info));
    draft.add_file(SEALED, &data)?;
    draft.set_beside(ENVELOPE, envelope);
    let draft = if options.replace { draft.replacing() } else { draft };
    draft.write_signed(dir, options.signer)
}

/// Writes the files of a verified bundle to the folder `dir`, which must not exist or be empty: of a sealed one what
/// is inside, in plain.
///
/// # Errors
/// [`Code::Conflict`], [`Code::StorageFull`] or [`Code::Io`].
pub fn unseal_to(verified: &Verified, dir: &Path) -> Result<()> {
    draft::write_contents(dir, verified.contents())?;
    verified.recheck()
}

fn record(verified: &Verified, at_ms: i64) -> ScanRecord {
    ScanRecord {
        scanner: concat!("bms ", env!("CARGO_PKG_VERSION")).to_owned(),
        at_ms,
        files: verified.contents().count() as u64,
        deny: verified.deny(),
        findings: verified.findings().len() as u64,
    }
}

/// What may be known without a key.
fn outside(inside: &Manifest, info: SealInfo) -> Manifest {
    Manifest {
        model: SEALED.to_owned(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        pipeline: Pipeline { preprocess: Preprocess::Tensor {}, postprocess: Postprocess::Tensor {} },
        sealed: Some(info),
        files: Vec::new(),
        ..inside.clone()
    }
}

/// Some chunks of one file.
pub(super) struct Piece<'a> {
    file: &'a FilePlace,
    content: &'a Content,
    first: u64,
}

fn encrypt(verified: &Verified, seal: &SealId, keys: &SealKeys, path: &Path) -> Result<()> {
    let sealed_files = verified
        .contents()
        .map(|(path, content)| SealedFile { path: path.to_owned(), size: content.len() as u64 });
    let header = Header {
        model: verified.manifest().name.clone(),
        digest: verified.digest().to_owned(),
        files: sealed_files.collect(),
    };
    let mut header_bytes = header.to_bytes()?;
    let header_length = u32::try_from(header_bytes.len() + TAG_BYTES)
        .map_err(|_| Error::new(Code::TooLarge, "the list of files is too long"))?;
    let layout = Layout::new(&header, seal, header_length, CHUNK_BYTES)?;
    let preamble = Preamble {
        seal: *seal,
        chunk_bytes: CHUNK_BYTES,
        header_bytes: header_length,
        file_bytes: layout.end,
    }
    .to_bytes();
    keys.seal_header(&preamble, &mut header_bytes)?;

    let mut file = File::create_new(path).map_err(|e| Error::io("make", path, e))?;
    file.write_all(&preamble)
        .and_then(|()| file.write_all(&header_bytes))
        .map_err(|e| Error::io("write", path, e))?;
    let file = Mutex::new(file);
    let pieces = pieces(&layout, verified.contents().map(|(_, content)| content)).collect();
    encrypt_pieces(&layout, keys, pieces, &file).map_err(|e| match e {
        Fault::Disk(e) => Error::io("write", path, e),
        Fault::Other(e) => e,
    })?;
    let file = file.into_inner().unwrap_or_else(PoisonError::into_inner);
    file.sync_all().map_err(|e| Error::io("write", path, e))
}

/// The work on files with these contents.
pub(super) fn pieces<'a>(
    layout: &'a Layout,
    contents: impl Iterator<Item = &'a Content> + 'a,
) -> impl Iterator<Item = Piece<'a>> {
    layout.files.iter().zip(contents).flat_map(|(file, content)| {
        let firsts = (0..file.chunks(layout.chunk_bytes)).step_by(PIECE_CHUNKS as usize);
        firsts.map(move |first| Piece { file, content, first })
    })
}

enum Fault {
    Disk(std::io::Error),
    Other(Error),
}

/// Encrypts on all processors; what is ready goes to its place in the file.
fn encrypt_pieces(
    layout: &Layout,
    keys: &SealKeys,
    pieces: Vec<Piece<'_>>,
    file: &Mutex<File>,
) -> std::result::Result<(), Fault> {
    each_piece(pieces, Vec::new, |buffer, piece| {
        let at = encrypt_piece(layout, keys, piece, buffer).map_err(Fault::Other)?;
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(buffer)).map_err(Fault::Disk)
    })
}

/// Fills `buffer` with the encrypted chunks and says where they belong.
pub(super) fn encrypt_piece(
    layout: &Layout,
    keys: &SealKeys,
    piece: Piece<'_>,
    buffer: &mut Vec<u8>,
) -> Result<u64> {
    let Piece { file, content, first } = piece;
    let (size, chunks) = (layout.chunk_bytes, file.chunks(layout.chunk_bytes));
    let last = chunks.min(first + PIECE_CHUNKS);
    let begin = file.sealed_range(first, size).start;
    // Whatever is in the buffer is written over.
    buffer.resize((file.sealed_range(last - 1, size).end - begin) as usize, 0);
    for number in first..last {
        let range = file.plain_range(number, size);
        let into = file.sealed_range(number, size);
        let place = Place {
            binding: &file.binding,
            path: &file.path,
            file: file.number,
            chunk: u32::try_from(number)
                .map_err(|_| Error::new(Code::TooLarge, "a file of too many chunks"))?,
            is_last: number + 1 == chunks,
        };
        keys.seal_chunk(
            &place,
            &content[range.start as usize..range.end as usize],
            &mut buffer[(into.start - begin) as usize..(into.end - begin) as usize],
        )?;
    }
    let read = file.plain_range(first, size).start as usize..file.plain_range(last - 1, size).end as usize;
    content.release(read);
    Ok(begin)
}
