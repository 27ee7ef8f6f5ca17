//! Files that are sent as chunks.

use bms_store::{Digest, Recipe};
use bms_wire::Code;
use bytes::Bytes;

use crate::bundles::{Site, noise};

#[tokio::test]
async fn only_missing_chunks_are_sent_and_the_file_is_seen_to_be_it() {
    let site = Site::new().await;
    let bytes = noise(3 << 20);
    let recipe = Recipe::of(&bytes[..], bytes.len() as u64).unwrap();
    let digest = recipe.digest.to_string();
    let ids: Vec<String> = recipe.chunks.iter().map(|chunk| chunk.id.to_string()).collect();
    let missing = site.registry.missing_chunks(&ids).await.unwrap();
    assert_eq!(missing, ids);
    let early = site.registry.put_recipe(&digest, &recipe.to_bytes()).await.unwrap_err();
    assert_eq!(early.code(), Code::NotFound);

    let mut offset = 0;
    let mut chunks = Vec::new();
    for chunk in &recipe.chunks {
        let range = offset..offset + chunk.size as usize;
        offset = range.end;
        chunks.push((chunk.id, Bytes::copy_from_slice(&bytes[range])));
    }
    let (first, second) = chunks.split_at(chunks.len() / 2);
    let stored = site.registry.put_chunks(first.to_vec()).await.unwrap();
    assert_eq!(stored.new as usize, first.len());
    // Broken off: what arrived is not asked for again.
    assert_eq!(site.registry.missing_chunks(&ids).await.unwrap().len(), second.len());
    let wrong = vec![(Digest::of(b"x"), Bytes::from_static(b"y"))];
    assert_eq!(site.registry.put_chunks(wrong).await.unwrap_err().code(), Code::Tampered);
    site.registry.put_chunks(second.to_vec()).await.unwrap();

    // The chunks in another order are another file, whatever the list says.
    let mut other = recipe.clone();
    other.chunks.swap(0, 1);
    let error = site.registry.put_recipe(&digest, &other.to_bytes()).await.unwrap_err();
    assert_eq!(error.code(), Code::Tampered);
    assert!(!site.registry.has_blob(&digest).await.unwrap());
    let error =
        site.registry.put_recipe(&Digest::of(b"x").to_string(), &recipe.to_bytes()).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidRequest);
    assert_eq!(site.registry.put_recipe(&digest, b"rubbish").await.unwrap_err().code(), Code::InvalidRequest);

    assert_eq!(site.registry.put_recipe(&digest, &recipe.to_bytes()).await.unwrap(), bytes.len() as u64);
    assert!(site.registry.has_blob(&digest).await.unwrap());
    assert_eq!(site.registry.recipe(&digest).await.unwrap(), recipe.to_bytes());
    let read = site.registry.get_chunks(&ids[..2]).await.unwrap();
    assert_eq!(read, chunks[..2]);
}
