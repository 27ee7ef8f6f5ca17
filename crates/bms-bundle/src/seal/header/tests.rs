use super::{CHUNK_BYTES, Header, Layout, Preamble, SealedFile};

fn header(sizes: &[u64]) -> Header {
    let mut files: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(n, size)| SealedFile { path: format!("file-{n}"), size: *size })
        .collect();
    files.push(SealedFile { path: "bundle.json".to_owned(), size: 10 });
    Header { model: "digits".to_owned(), digest: "d".to_owned(), files }
}

#[test]
fn chunks_lie_one_after_the_other_and_cover_every_byte() {
    let chunk = u64::from(CHUNK_BYTES);
    let header = header(&[0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk]);
    let layout = Layout::new(&header, &[0; 16], 4112, CHUNK_BYTES).unwrap();
    let mut at = 40 + 4112;
    for file in &layout.files {
        let mut plain = 0;
        for number in 0..file.chunks(chunk) {
            let (sealed, range) = (file.sealed_range(number, chunk), file.plain_range(number, chunk));
            assert_eq!((sealed.start, range.start), (at, plain));
            assert_eq!(sealed.end - sealed.start, range.end - range.start + 16);
            (at, plain) = (sealed.end, range.end);
        }
        assert_eq!(plain, file.size);
    }
    assert_eq!(layout.end, at);
}

#[test]
fn a_preamble_is_read_back_or_refused() {
    let preamble = Preamble { seal: [7; 16], chunk_bytes: CHUNK_BYTES, header_bytes: 4112, file_bytes: 5000 };
    let bytes = preamble.to_bytes();
    assert_eq!(Preamble::parse(&bytes, 5000).unwrap(), preamble);
    assert!(Preamble::parse(&bytes, 4999).is_err());
    assert!(Preamble::parse(&bytes[..39], 5000).is_err());
    for wrong in [
        Preamble { chunk_bytes: 0, ..preamble.clone() },
        Preamble { chunk_bytes: 3 << 16, ..preamble.clone() },
        Preamble { chunk_bytes: 1 << 21, ..preamble.clone() },
        Preamble { header_bytes: 15, ..preamble.clone() },
        Preamble { header_bytes: 5000, ..preamble.clone() },
        Preamble { header_bytes: u32::MAX, ..preamble.clone() },
    ] {
        assert!(Preamble::parse(&wrong.to_bytes(), 5000).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_header_is_padded_and_checked() {
    let bytes = header(&[1]).to_bytes().unwrap();
    assert_eq!(bytes.len() % 4096, 0);
    assert_eq!(Header::parse(&bytes).unwrap(), header(&[1]));
    let refused = |header: Header| assert!(Header::parse(&header.to_bytes().unwrap()).is_err());
    let with = |path: &str, size| {
        let mut header = header(&[1]);
        header.files.push(SealedFile { path: path.to_owned(), size });
        header
    };
    refused(with("../outside", 1));
    refused(with("FILE-0", 1));
    refused(with("huge", u64::MAX));
    refused(with("huge", 1 << 40));
    refused(Header { files: Vec::new(), ..header(&[]) });
}
