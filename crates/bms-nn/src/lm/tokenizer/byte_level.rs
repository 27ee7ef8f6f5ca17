//! The alphabet of byte-level vocabularies: a printable character for each byte.
//!
//! Source: `bytes_to_unicode` of GPT-2's encoder. Printable Latin-1 stands for itself, the other 68 bytes
//! for the characters from U+0100 on, in order.

/// Whether a byte stands for itself.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character that stands for each byte.
const ALPHABET: [char; 256] = {
    let mut alphabet = ['\0'; 256];
    let (mut byte, mut next) = (0_usize, 0x100_u32);
    while byte < 256 {
        alphabet[byte] = if is_printable(byte as u8) {
            byte as u8 as char
        } else {
            next += 1;
            match char::from_u32(next - 1) {
                Some(letter) => letter,
                None => '\0',
            }
        };
        byte += 1;
    }
    alphabet
};

/// The byte of a character, when it stands for one.
fn byte(letter: char) -> Option<u8> {
    let code = letter as u32;
    if code < 0x100 {
        return Some(code as u8).filter(|byte| is_printable(*byte));
    }
    // 68 characters: a search is short.
    ALPHABET.iter().position(|each| *each == letter).filter(|_| code < 0x100 + 68).map(|place| place as u8)
}

/// The bytes a token of a byte-level vocabulary stands for, when each of its characters stands for one.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    text.chars().map(byte).collect()
}
