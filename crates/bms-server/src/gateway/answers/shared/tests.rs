use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::super::{CacheSettings, Found};
use super::*;

const KEY: Key = [7; 32];

fn of() -> VersionName {
    VersionName { model: "m".to_owned(), version: 1 }
}

fn answers(memory: u64) -> Arc<Answers> {
    Answers::new(CacheSettings { memory, age: Duration::from_secs(60), models: Vec::new() })
}

/// Asks first; the slot's end, and the reader.
async fn first(answers: &Arc<Answers>) -> (mpsc::Sender<Bytes>, Reader) {
    let (slot, mut pieces) = mpsc::channel(1000);
    let Found::Nothing(place) = answers.find(KEY).await else { panic!("nothing is known yet") };
    let piece = move |context: &mut Context<'_>| {
        pieces.poll_recv(context).map(|piece| piece.map(Ok::<_, Infallible>))
    };
    let body = Body::from_stream(futures_util::stream::poll_fn(piece));
    let origin = Origin { headers: HeaderMap::new(), body, ended: Ended::Done, ticket: None };
    (slot, place.share(&of(), origin))
}

async fn along(answers: &Arc<Answers>) -> Reader {
    let Found::Coming(found, reader) = answers.find(KEY).await else { panic!("one is coming") };
    assert_eq!(found, of());
    reader
}

async fn kept(answers: &Arc<Answers>) -> Option<Bytes> {
    match answers.find(KEY).await {
        Found::Kept(_, answer) => Some(answer.into_body()),
        Found::Nothing(_) => None,
        Found::Coming(..) => panic!("nobody reads it any more"),
    }
}

async fn next(reader: &mut Reader) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(20), reader.frame()).await.expect("soon");
    frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

async fn rest(reader: &mut Reader) -> String {
    let mut all = String::new();
    while let Some(piece) = next(reader).await {
        all.push_str(&piece);
    }
    all
}

fn event(text: &str) -> Bytes {
    format!("data: {{\"x\":\"{text}\"}}\n\n").into()
}

const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

#[tokio::test]
async fn all_read_the_same_and_it_is_kept() {
    let answers = answers(1 << 20);
    let (slot, mut one) = first(&answers).await;
    slot.send(event("a")).await.unwrap();
    assert_eq!(next(&mut one).await.unwrap().as_bytes(), event("a"));
    let mut two = along(&answers).await;
    assert_eq!(next(&mut two).await.unwrap().as_bytes(), event("a"));
    // Both wait, and both are told.
    let (told_one, told_two, ()) = tokio::join!(next(&mut one), next(&mut two), async {
        tokio::task::yield_now().await;
        slot.send(event("b")).await.unwrap();
    });
    assert_eq!(
        (told_one.unwrap().as_bytes(), told_two.unwrap().as_bytes()),
        (&event("b")[..], &event("b")[..])
    );
    slot.send(DONE).await.unwrap();
    drop(slot);
    assert_eq!(rest(&mut two).await.as_bytes(), DONE);
    assert_eq!(rest(&mut one).await.as_bytes(), DONE);
    let whole = [event("a"), event("b"), DONE].concat();
    assert_eq!(kept(&answers).await.unwrap(), whole);
    drop((one, two));
    assert_eq!(answers.coming.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_others_go_on_when_who_asked_first_leaves() {
    let answers = answers(1 << 20);
    let (slot, mut one) = first(&answers).await;
    slot.send(event("a")).await.unwrap();
    next(&mut one).await.unwrap();
    let mut two = along(&answers).await;
    drop(one);
    slot.send(event("b")).await.unwrap();
    slot.send(DONE).await.unwrap();
    drop(slot);
    let whole = [event("a"), event("b"), DONE].concat();
    assert_eq!(rest(&mut two).await.as_bytes(), whole);
    assert_eq!(kept(&answers).await.unwrap(), whole);
}

#[tokio::test]
async fn what_nobody_reads_ends_and_is_not_kept() {
    let answers = answers(1 << 20);
    let (slot, mut one) = first(&answers).await;
    slot.send(event("a")).await.unwrap();
    next(&mut one).await.unwrap();
    drop(one);
    assert!(slot.is_closed(), "the slot is told");
    assert_eq!(kept(&answers).await, None);
    assert_eq!(answers.coming.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_broke_off_is_not_kept() {
    for last in [None, Some("data: {\"error\":{}}\n\n"), Some("data: {\"x\":")] {
        let answers = answers(1 << 20);
        let (slot, mut one) = first(&answers).await;
        let mut two = along(&answers).await;
        slot.send(event("a")).await.unwrap();
        if let Some(last) = last {
            slot.send(last.into()).await.unwrap();
        }
        drop(slot);
        let expected = format!("{}{}", str::from_utf8(&event("a")).unwrap(), last.unwrap_or_default());
        assert_eq!(rest(&mut one).await, expected);
        assert_eq!(rest(&mut two).await, expected, "half an event as well");
        assert_eq!(kept(&answers).await, None, "{last:?}");
    }
}

#[tokio::test]
async fn a_long_one_goes_through_and_who_reads_fast_waits_for_who_reads_slowly() {
    let answers = answers(64 << 10);
    let (slot, mut one) = first(&answers).await;
    let mut two = along(&answers).await;
    let long = "x".repeat(1000);
    for _ in 0..200 {
        slot.send(event(&long)).await.unwrap();
    }
    slot.send(DONE).await.unwrap();
    drop(slot);
    // All of it is there: what does not come at once does not come.
    tokio::task::yield_now().await;
    let (mut read, length) = (0, event(&long).len());
    while let Some(piece) = next(&mut one).now_or_never() {
        assert!(piece.is_some(), "it waits before the end");
        read += 1;
    }
    // An eighth of the memory and what may be ahead, with a little to spare.
    assert!((AHEAD_BYTES_MAX..2 * AHEAD_BYTES_MAX).contains(&(read * length)), "{read}");
    assert!(answers.bytes() < 2 * AHEAD_BYTES_MAX as u64, "{}", answers.bytes());
    assert!(matches!(answers.find(KEY).await, Found::Nothing(_)), "nobody comes to one that is not held");
    let (left, all) = tokio::join!(rest(&mut one), rest(&mut two));
    assert_eq!((left.len(), all.len()), ((200 - read) * length + DONE.len(), 200 * length + DONE.len()));
    assert_eq!(kept(&answers).await, None);
    drop((one, two));
    assert_eq!(answers.bytes(), 0);
}
