use super::*;

fn ramp(width: u32, height: u32, channels: u8) -> Image {
    let n = width * height * u32::from(channels);
    Image::new(width, height, channels, (0..n).map(|i| (i * 7 % 256) as u8).collect()).unwrap()
}

#[test]
fn png_is_lossless_for_grey_and_rgb_and_odd_sizes() {
    for (w, h) in [(1, 1), (8, 8), (3, 17), (31, 2)] {
        for channels in [1, 3] {
            let image = ramp(w, h, channels);
            assert_eq!(Image::decode(&image.encode_png().unwrap()).unwrap(), image);
        }
    }
}

#[test]
fn what_is_no_picture_is_invalid_input() {
    for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a", &[0xff, 0xd8, 0xff, 0xe0, 0, 1]] {
        assert_eq!(Image::decode(bytes).unwrap_err().code(), Code::InvalidInput, "{bytes:?}");
    }
}

#[test]
fn a_picture_cut_short_is_refused_at_every_length() {
    let png = ramp(9, 7, 3).encode_png().unwrap();
    for end in 0..png.len() - 12 {
        assert!(Image::decode(&png[..end]).is_err(), "accepted {end} of {} bytes", png.len());
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_memory_is_taken() {
    let mut png = ramp(2, 2, 1).encode_png().unwrap();
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    // The checksum of the header no longer fits either, so both refusals are right; a panic or an allocation is not.
    let code = Image::decode(&png).unwrap_err().code();
    assert!(matches!(code, Code::TooLarge | Code::InvalidInput), "{code}");
}

#[test]
fn fields_that_do_not_fit_are_refused() {
    assert!(Image::new(0, 1, 1, vec![]).is_err());
    assert!(Image::new(1, 1, 2, vec![0, 0]).is_err());
    assert!(Image::new(2, 2, 1, vec![0; 3]).is_err());
}
