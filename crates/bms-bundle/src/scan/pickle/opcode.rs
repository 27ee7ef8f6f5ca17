//! The operations and their operands.

/// How an operation's operand is stored.
#[derive(Clone, Copy)]
enum Operand {
    None,
    /// So many bytes.
    Fixed(usize),
    /// A length of so many bytes, then the bytes.
    Sized(usize),
    /// Text up to a line feed.
    Line,
    /// Two of them.
    Lines,
}

/// One operation, decoded.
pub(super) struct Operation<'a> {
    /// Its code.
    pub(super) code: u8,
    /// Its operand, without length or line feed.
    pub(super) operand: &'a [u8],
    /// The second line of operations that have two.
    pub(super) second: &'a [u8],
    /// Where the next one begins.
    pub(super) end: usize,
}

/// Why there is no operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecoded {
    /// The bytes end.
    Truncated,
    /// The operand claims more than any file holds.
    Huge(u64),
    /// There is no such operation.
    Unknown(u8),
}

/// The longest operand that can be an honest one in a truncated file.
const OPERAND_BYTES_MAX: u64 = 1 << 40;

/// Decodes the operation at `at`.
pub(super) fn decode(bytes: &[u8], at: usize) -> Result<Operation<'_>, Undecoded> {
    let code = *bytes.get(at).ok_or(Undecoded::Truncated)?;
    let from = at + 1;
    let none: &[u8] = &[];
    let (operand, second, end) = match operand(code).ok_or(Undecoded::Unknown(code))? {
        Operand::None => (none, none, from),
        Operand::Fixed(width) => (slice(bytes, from, width as u64)?, none, from + width),
        Operand::Sized(width) => {
            let length = unsigned(slice(bytes, from, width as u64)?);
            let operand = slice(bytes, from + width, length)?;
            (operand, none, from + width + operand.len())
        }
        Operand::Line => {
            let first = line(bytes, from)?;
            (first, none, from + first.len() + 1)
        }
        Operand::Lines => {
            let first = line(bytes, from)?;
            let second = line(bytes, from + first.len() + 1)?;
            (first, second, from + first.len() + second.len() + 2)
        }
    };
    Ok(Operation { code, operand, second, end })
}

/// A little-endian number of at most eight bytes.
pub(super) fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn slice(bytes: &[u8], from: usize, length: u64) -> Result<&[u8], Undecoded> {
    if OPERAND_BYTES_MAX < length {
        return Err(Undecoded::Huge(length));
    }
    let rest = bytes.get(from..).ok_or(Undecoded::Truncated)?;
    usize::try_from(length).ok().and_then(|length| rest.get(..length)).ok_or(Undecoded::Truncated)
}

fn line(bytes: &[u8], from: usize) -> Result<&[u8], Undecoded> {
    let rest = bytes.get(from..).ok_or(Undecoded::Truncated)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(Undecoded::Truncated)?;
    Ok(&rest[..end])
}

fn operand(code: u8) -> Option<Operand> {
    Some(match code {
        b'('
        | b'.'
        | b'0'
        | b'1'
        | b'2'
        | b'N'
        | b'Q'
        | b'R'
        | b'a'
        | b'b'
        | b'd'
        | b'}'
        | b'e'
        | b'l'
        | b']'
        | b'o'
        | b's'
        | b't'
        | b')'
        | b'u'
        | 0x81
        | 0x85..=0x89
        | 0x8f..=0x94
        | 0x97
        | 0x98 => Operand::None,
        b'K' | b'h' | b'q' | 0x80 | 0x82 => Operand::Fixed(1),
        b'M' | 0x83 => Operand::Fixed(2),
        b'J' | b'j' | b'r' | 0x84 => Operand::Fixed(4),
        b'G' | 0x95 => Operand::Fixed(8),
        b'U' | b'C' | 0x8a | 0x8c => Operand::Sized(1),
        b'T' | b'X' | b'B' | 0x8b => Operand::Sized(4),
        0x8d | 0x8e | 0x96 => Operand::Sized(8),
        b'F' | b'I' | b'L' | b'P' | b'S' | b'V' | b'g' | b'p' => Operand::Line,
        b'c' | b'i' => Operand::Lines,
        _ => return None,
    })
}
