//! The records of a 7z header.

/// Folders, members and coders of one archive: far more than any holds, and little memory.
const COUNT_MAX: u64 = 1 << 20;
/// Coders of one folder; the format's own limit.
const CODERS_MAX: u64 = 32;

/// Why a header cannot be used.
#[derive(Debug)]
pub(super) enum Stop {
    /// It ends early or contradicts itself.
    Truncated,
    /// It uses what is not supported here.
    Unsupported(String),
}

type Read<T> = Result<T, Stop>;

/// What a header says.
#[derive(Default)]
pub(super) struct Archive {
    /// Whether it describes a packed header instead of members.
    pub(super) is_packed_header: bool,
    pub(super) folders: Vec<Folder>,
    /// Names of the members that have content, in their order, then of those that have none.
    pub(super) names: Vec<String>,
    pack_position: u64,
    pack_sizes: Vec<u64>,
}

/// One packed stream.
#[derive(Default)]
pub(super) struct Folder {
    coders: Vec<Coder>,
    /// (input, output) that are connected.
    bonds: Vec<(u64, u64)>,
    packed_inputs: Vec<u64>,
    /// Whether its checksum stands with it rather than with its members.
    is_checked: bool,
    /// What each coder gives.
    sizes: Vec<u64>,
    /// Sizes of the members inside.
    pub(super) members: Vec<u64>,
}

/// One decoder.
pub(super) struct Coder {
    pub(super) id: Vec<u8>,
    pub(super) properties: Vec<u8>,
}

impl Archive {
    /// Where the bytes of a folder lie: offset after the first header, and length.
    pub(super) fn packed(&self, folder: usize) -> Option<(u64, u64)> {
        // Every folder that is supported has one packed stream.
        let before = self.pack_sizes.get(..folder)?;
        let offset = before.iter().try_fold(self.pack_position, |sum, size| sum.checked_add(*size))?;
        Some((offset, *self.pack_sizes.get(folder)?))
    }
}

impl Folder {
    /// The coders in the order in which bytes go through them, each with the size it gives.
    pub(super) fn order(&self) -> Read<Vec<(&Coder, u64)>> {
        if self.packed_inputs.len() != 1 {
            return Err(Stop::Unsupported("its streams are interwoven".to_owned()));
        }
        let mut order = Vec::new();
        let mut at = self.packed_inputs[0];
        while order.len() < self.coders.len() {
            let index = usize::try_from(at).map_err(|_| Stop::Truncated)?;
            let coder = self.coders.get(index).ok_or(Stop::Truncated)?;
            order.push((coder, *self.sizes.get(index).ok_or(Stop::Truncated)?));
            match self.bonds.iter().find(|(_, output)| *output == at) {
                Some((input, _)) => at = *input,
                None => break,
            }
        }
        match order.len() == self.coders.len() {
            true => Ok(order),
            false => Err(Stop::Unsupported("its coders form no chain".to_owned())),
        }
    }

    /// What comes out of the last coder.
    pub(super) fn size(&self) -> Option<u64> {
        let bound = |index: usize| self.bonds.iter().any(|(_, output)| *output == index as u64);
        (0..self.coders.len()).find(|index| !bound(*index)).and_then(|index| self.sizes.get(index).copied())
    }
}

/// Reads a header.
pub(super) fn parse(bytes: &[u8]) -> Read<Archive> {
    let mut reader = Reader { left: bytes };
    let mut archive = Archive::default();
    match reader.byte()? {
        0x17 => {
            archive.is_packed_header = true;
            reader.streams(&mut archive)?;
        }
        0x01 => loop {
            match reader.byte()? {
                0 => break,
                2 => {
                    while reader.byte()? != 0 {
                        let length = reader.number()?;
                        reader.take(length)?;
                    }
                }
                3 => return Err(Stop::Unsupported("it has additional streams".to_owned())),
                4 => reader.streams(&mut archive)?,
                5 => reader.files(&mut archive)?,
                _ => return Err(Stop::Truncated),
            }
        },
        _ => return Err(Stop::Truncated),
    }
    Ok(archive)
}

struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Read<u8> {
        let (byte, rest) = self.left.split_first().ok_or(Stop::Truncated)?;
        self.left = rest;
        Ok(*byte)
    }

    fn take(&mut self, length: u64) -> Read<&'a [u8]> {
        let length = usize::try_from(length).map_err(|_| Stop::Truncated)?;
        let (taken, rest) = self.left.split_at_checked(length).ok_or(Stop::Truncated)?;
        self.left = rest;
        Ok(taken)
    }

    /// A number of up to eight bytes; the leading ones of the first byte say how many follow.
    fn number(&mut self) -> Read<u64> {
        let first = self.byte()?;
        let more = first.leading_ones();
        let mut value = 0;
        for index in 0..more {
            value |= u64::from(self.byte()?) << (8 * index);
        }
        if more < 7 {
            let high = u64::from(first & (0x7f >> more));
            value |= high << (8 * more);
        }
        Ok(value)
    }

    /// A number of things, each of which takes a byte of the header at least.
    fn count(&mut self, max: u64) -> Read<u64> {
        let count = self.number()?;
        if max < count {
            return Err(Stop::Unsupported(format!("it claims {count} parts")));
        }
        Ok(count)
    }

    fn streams(&mut self, archive: &mut Archive) -> Read<()> {
        loop {
            match self.byte()? {
                0 => return Ok(()),
                6 => self.pack_info(archive)?,
                7 => self.folders(archive)?,
                8 => self.substreams(archive)?,
                _ => return Err(Stop::Truncated),
            }
        }
    }

    fn pack_info(&mut self, archive: &mut Archive) -> Read<()> {
        archive.pack_position = self.number()?;
        let count = self.count(COUNT_MAX)?;
        loop {
            match self.byte()? {
                0 => return Ok(()),
                9 => archive.pack_sizes = (0..count).map(|_| self.number()).collect::<Read<_>>()?,
                10 => drop(self.digests(count)?),
                _ => return Err(Stop::Truncated),
            }
        }
    }

    /// Checksums: which are there, and how many.
    fn digests(&mut self, count: u64) -> Read<Vec<bool>> {
        let defined = match self.byte()? {
            0 => self.bits(count)?,
            _ if count <= self.left.len() as u64 => vec![true; count as usize],
            _ => return Err(Stop::Truncated),
        };
        let number = defined.iter().filter(|defined| **defined).count();
        self.take(4 * number as u64)?;
        Ok(defined)
    }

    fn bits(&mut self, count: u64) -> Read<Vec<bool>> {
        let bytes = self.take(count.div_ceil(8))?;
        Ok((0..count as usize).map(|index| bytes[index / 8] & (0x80 >> (index % 8)) != 0).collect())
    }

    fn folders(&mut self, archive: &mut Archive) -> Read<()> {
        if self.byte()? != 0x0b {
            return Err(Stop::Truncated);
        }
        let count = self.count(COUNT_MAX)?;
        if self.byte()? != 0 {
            return Err(Stop::Unsupported("its folders lie elsewhere".to_owned()));
        }
        archive.folders = (0..count).map(|_| self.folder()).collect::<Read<_>>()?;
        if self.byte()? != 0x0c {
            return Err(Stop::Truncated);
        }
        for folder in &mut archive.folders {
            folder.sizes = (0..folder.coders.len()).map(|_| self.number()).collect::<Read<_>>()?;
            folder.members = folder.size().into_iter().collect();
        }
        loop {
            match self.byte()? {
                0 => return Ok(()),
                10 => {
                    let defined = self.digests(count)?;
                    archive
                        .folders
                        .iter_mut()
                        .zip(defined)
                        .for_each(|(folder, defined)| folder.is_checked = defined);
                }
                _ => return Err(Stop::Truncated),
            }
        }
    }

    fn folder(&mut self) -> Read<Folder> {
        let mut folder = Folder::default();
        let count = self.count(CODERS_MAX)?;
        for _ in 0..count {
            let flags = self.byte()?;
            let id = self.take(u64::from(flags & 15))?.to_vec();
            if flags & 0x10 != 0 && (self.number()?, self.number()?) != (1, 1) {
                return Err(Stop::Unsupported("its streams are interwoven".to_owned()));
            }
            let length = if flags & 0x20 != 0 { self.number()? } else { 0 };
            folder.coders.push(Coder { id, properties: self.take(length)?.to_vec() });
        }
        for _ in 1..count {
            folder.bonds.push((self.number()?, self.number()?));
        }
        let bound = |index: &u64| folder.bonds.iter().any(|(input, _)| input == index);
        folder.packed_inputs = (0..count).filter(|index| !bound(index)).collect();
        Ok(folder)
    }

    fn substreams(&mut self, archive: &mut Archive) -> Read<()> {
        let mut counts = vec![1; archive.folders.len()];
        let mut kind = self.byte()?;
        if kind == 0x0d {
            counts = archive.folders.iter().map(|_| self.count(COUNT_MAX)).collect::<Read<_>>()?;
            kind = self.byte()?;
        }
        for (folder, count) in archive.folders.iter_mut().zip(&counts) {
            let mut left = folder.size().ok_or(Stop::Truncated)?;
            folder.members.clear();
            // The last size is what is left.
            for _ in 1..*count {
                let size = if kind == 9 { self.number()? } else { return Err(Stop::Truncated) };
                left = left.checked_sub(size).ok_or(Stop::Truncated)?;
                folder.members.push(size);
            }
            if 0 < *count {
                folder.members.push(left);
            }
        }
        if kind == 9 {
            kind = self.byte()?;
        }
        // Checksums of members whose folder has none of its own.
        match kind {
            0 => Ok(()),
            10 => {
                let missing = archive.folders.iter().zip(&counts);
                let count =
                    missing.map(|(folder, count)| if *count == 1 && folder.is_checked { 0 } else { *count });
                self.digests(count.sum())?;
                match self.byte()? {
                    0 => Ok(()),
                    _ => Err(Stop::Truncated),
                }
            }
            _ => Err(Stop::Truncated),
        }
    }

    fn files(&mut self, archive: &mut Archive) -> Read<()> {
        let count = self.count(COUNT_MAX)?;
        let mut empty = Vec::new();
        let mut names = Vec::new();
        loop {
            let kind = self.byte()?;
            if kind == 0 {
                break;
            }
            let length = self.number()?;
            let mut field = Reader { left: self.take(length)? };
            match kind {
                0x0e => empty = field.bits(count)?,
                0x11 => {
                    if field.byte()? != 0 {
                        return Err(Stop::Unsupported("its names lie elsewhere".to_owned()));
                    }
                    let units = field.left.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
                    let text: String = char::decode_utf16(units).map(|c| c.unwrap_or('\u{fffd}')).collect();
                    names = text.split_terminator('\0').map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        let is_empty = |index: usize| empty.get(index).copied().unwrap_or(false);
        let named = |wanted: bool| {
            let names = names.iter().enumerate().filter(move |(index, _)| is_empty(*index) == wanted);
            names.map(|(_, name): (usize, &String)| name.clone()).collect::<Vec<_>>()
        };
        archive.names = [named(false), named(true)].concat();
        Ok(())
    }
}
