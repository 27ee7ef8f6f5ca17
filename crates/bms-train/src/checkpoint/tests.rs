use super::*;

fn checkpoint(epoch: usize) -> Checkpoint {
    Checkpoint {
        epoch,
        fingerprint: "abc".into(),
        curves: Curves::default(),
        network: vec![1, 2, 3, epoch as u8],
        optimiser: vec![9; 100],
        best: Some(Best { epoch: 1, loss: 0.1 + epoch as f32, network: vec![7; 5] }),
    }
}

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::open(&dir.path().join("deep/er")).unwrap();
    (dir, folder)
}

#[test]
fn what_is_saved_comes_back_and_only_two_are_kept() {
    let (_dir, folder) = folder();
    assert!(folder.is_empty().unwrap());
    for epoch in 1..=4 {
        folder.save(&checkpoint(epoch)).unwrap();
    }
    let Newest { found, skipped } = folder.newest("abc").unwrap();
    assert_eq!(found.unwrap().1, checkpoint(4));
    assert!(skipped.is_empty());
    let epochs: Vec<usize> = folder.list().unwrap().into_iter().map(|(epoch, _)| epoch).collect();
    assert_eq!(epochs, [3, 4]);
}

#[test]
fn every_cut_and_every_flipped_bit_is_noticed() {
    let bytes = checkpoint(3).to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert!(Checkpoint::from_bytes(&bytes[..end]).is_err(), "cut at {end}");
    }
    for idx in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[idx] ^= 1 << (idx % 8);
        assert!(Checkpoint::from_bytes(&damaged).is_err(), "flipped at {idx}");
    }
    assert_eq!(Checkpoint::from_bytes(&bytes).unwrap(), checkpoint(3));
}

#[test]
fn a_damaged_newest_falls_back_to_the_one_before() {
    let (_dir, folder) = folder();
    folder.save(&checkpoint(1)).unwrap();
    let newest = folder.save(&checkpoint(2)).unwrap();
    let bytes = fs::read(&newest).unwrap();
    fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    let Newest { found, skipped } = folder.newest("abc").unwrap();
    assert_eq!(found.unwrap().1.epoch, 1);
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].0, newest);
}

#[test]
fn other_options_are_a_conflict() {
    let (_dir, folder) = folder();
    folder.save(&checkpoint(1)).unwrap();
    assert_eq!(folder.newest("other").unwrap_err().code(), Code::Conflict);
}

#[test]
fn an_unfinished_temporary_file_is_no_checkpoint() {
    let (_dir, folder) = folder();
    fs::write(folder.dir.join(".tmpXYZ"), b"half").unwrap();
    assert!(folder.is_empty().unwrap());
}
