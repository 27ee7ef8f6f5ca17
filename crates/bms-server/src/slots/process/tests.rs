use std::time::{Duration, Instant};

use bms_wire::{Code, ErrorBody};

use super::{Greeting, LINE_BYTES_MAX, Ready, next_line, resident_bytes, usage, would_run};

#[tokio::test]
async fn lines_come_one_by_one_and_never_longer_than_allowed() {
    let mut text = b"first\n\nthird".to_vec();
    text.extend(std::iter::repeat_n(b'x', 3 * LINE_BYTES_MAX));
    text.extend(b"\nlast");
    let mut from = tokio::io::BufReader::with_capacity(1000, &text[..]);
    let mut lines = Vec::new();
    while let Some(line) = next_line(&mut from).await.unwrap() {
        lines.push(line);
    }
    assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [5, 0, LINE_BYTES_MAX, 4]);
    assert_eq!(lines[3], b"last");
}

#[test]
fn greetings_are_told_apart() {
    let ready = r#"{"ready":true,"model":"digits","digest":"ab","runtime":"rten","pid":7}"#;
    let Greeting::Ready(Ready { model, runtime, .. }) = serde_json::from_str(ready).unwrap() else {
        panic!("not taken as ready");
    };
    assert_eq!((model.as_str(), runtime.as_str()), ("digits", "rten"));
    let refused = r#"{"refused":{"error":"the bytes differ","code":"tampered"}}"#;
    let body = ErrorBody { error: "the bytes differ".into(), code: Code::Tampered, hint: None };
    assert_eq!(serde_json::from_str::<Greeting>(refused).unwrap(), Greeting::Refused { refused: body });
    assert!(serde_json::from_str::<Greeting>(r#"{"level":"info"}"#).is_err());
}

#[test]
fn a_process_that_computes_is_seen_to() {
    let pid = std::process::id();
    let before = usage(pid).unwrap().processor;
    let start = Instant::now();
    let mut sum = 0u64;
    assert!(would_run(pid));
    while usage(pid).unwrap().processor < before + Duration::from_millis(50) {
        for n in 0..100_000 {
            sum = std::hint::black_box(sum.wrapping_add(n));
        }
        assert!(start.elapsed() < Duration::from_secs(20), "the processor time does not grow");
    }
    assert!((1 << 20) < resident_bytes(pid).unwrap());
    assert!(usage(u32::MAX).is_none() && !would_run(u32::MAX));
    assert!(resident_bytes(u32::MAX).is_none());
}
