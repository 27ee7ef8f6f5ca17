use super::*;
use crate::{FileWriter, Location, Store};

#[tokio::test]
async fn a_sender_cuts_as_a_store_does() {
    let mut bytes = vec![0; 35 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    let store = Store::open(&Location::Memory).await.unwrap();
    let mut push = store.push().await.unwrap();
    let mut file = FileWriter::new(Some(bytes.len() as u64));
    push.write(&mut file, &bytes).await.unwrap();
    push.end(file, None).await.unwrap();
    push.finish().await.unwrap();
    let recipe = Recipe::of(&bytes[..], bytes.len() as u64).unwrap();
    assert_eq!(store.recipe(Digest::of(&bytes)).await.unwrap(), recipe);
    assert_eq!(Recipe::of(&b""[..], 0).unwrap().chunks, []);
}

#[test]
fn frames_read_back_and_torn_ones_are_refused() {
    let mut out = Vec::new();
    for chunk in [&b"one"[..], b"two and more"] {
        frame(Digest::of(chunk), chunk, &mut out);
    }
    let whole = Bytes::from(out);
    let chunks = unframe(whole.clone()).unwrap();
    assert_eq!(chunks.len(), 2);
    assert!(chunks.iter().all(|(id, chunk)| Digest::of(chunk) == *id));
    for end in (1..whole.len()).filter(|end| *end != 39) {
        assert_eq!(unframe(whole.slice(..end)).unwrap_err().code(), Code::InvalidRequest, "{end} bytes");
    }
    assert_eq!(unframe(vec![0; 36].into()).unwrap_err().code(), Code::InvalidRequest, "an empty chunk");
}
