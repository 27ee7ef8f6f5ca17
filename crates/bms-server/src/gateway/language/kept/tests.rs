use super::*;
use crate::continuation::Beginning;

const BEGIN: &str = r#": bms {"begin":{"id":"a","created":1,"seed":2},"names":1}"#;
const FIRST: &str = r#": bms {"heard":[{"i":0,"t":[5]}],"names":1}"#;

/// What goes out of a stream that comes in pieces of so many bytes.
fn passed(stream: &str, piece_bytes: usize) -> (Marked, Vec<u8>) {
    let (mut marked, mut out) = (Marked::default(), Vec::new());
    for piece in stream.as_bytes().chunks(piece_bytes) {
        out.extend_from_slice(&marked.take(piece).unwrap());
    }
    (marked, out)
}

#[test]
fn events_go_out_once_their_mark_is_there_however_they_are_cut() {
    let stream = format!("data: role\n\n{BEGIN}\n\ndata: \\n: bms {{x}}\n\n{FIRST}\n\ndata: half of wh");
    for piece_bytes in 1..=stream.len() {
        let (marked, out) = passed(&stream, piece_bytes);
        assert_eq!(String::from_utf8(out).unwrap(), "data: role\n\ndata: \\n: bms {x}\n\n", "{piece_bytes}");
        let continuation = marked.continuation.unwrap();
        assert_eq!(continuation.begin, Beginning { id: "a".into(), created: 1, seed: 2 });
        assert_eq!((continuation.events(1), marked.moved, marked.ended), (vec![1], true, false));
        assert!(marked.begun);
        assert_eq!(&marked.held[..], b"data: half of wh");
    }
}

#[test]
fn what_comes_before_the_first_token_is_no_beginning() {
    let (marked, out) =
        passed(&format!("data: role\n\n{BEGIN}\n\n: keep-alive\n\n: bms {{\"names\":1}}\n\n"), 9);
    assert!(!marked.begun && out.starts_with(b"data: role"));
    let (marked, _) = passed(": bms {\"names\":1,\"ended\":true}\n\n", 9);
    assert!(marked.begun, "it has said all there is");
}

#[test]
fn the_last_mark_says_so() {
    let stream = format!("data: x\n\n{BEGIN}\n\ndata: [DONE]\n\n: bms {{\"names\":3,\"ended\":true}}\n\n");
    let (marked, out) = passed(&stream, 7);
    assert!(marked.ended && out.ends_with(b"[DONE]\n\n"));
    assert_eq!(marked.continuation.unwrap().names, 3);
    let (marked, out) = passed(": bms {\"names\":3,\"lost\":\"the engine stops\"}\n\n", 100);
    assert_eq!((marked.lost.as_deref(), out.len(), marked.ended), (Some("the engine stops"), 0, false));
}

#[test]
fn a_stream_that_says_too_much_goes_out_and_cannot_go_on() {
    let mark = format!(r#": bms {{"heard":[{{"i":0,"t":[{}5]}}],"names":1}}"#, "5,".repeat(10_000));
    let (mut marked, _) = passed(&format!("data: x\n\n{BEGIN}\n\n"), 100);
    let piece = format!("data: y\n\n{mark}\n\n");
    for _ in 0..=limits::CONTINUATION_BYTES_MAX / mark.len() {
        assert_eq!(&marked.take(piece.as_bytes()).unwrap()[..], b"data: y\n\n");
    }
    assert!(marked.continuation.is_none());
}

#[test]
fn what_marks_nothing_is_refused() {
    let mut marked = Marked::default();
    assert!(marked.take(b": bms {\n\n").is_err());
    let flood = vec![b'x'; limits::CONTINUATION_BYTES_MAX + 1];
    assert!(Marked::default().take(&flood).is_err());
}
