use super::*;

fn contents(ids: &[u8]) -> Contents {
    let entries: Vec<_> =
        ids.iter().map(|id| Entry { id: Digest::of(&[*id]), size: 10, stored: 10, squeezed: None }).collect();
    let size = 8 + 10 * ids.len() as u64 + pack::write_list(&entries).len() as u64;
    Contents { name: Name::new(), size, entries }
}

#[test]
fn what_is_condemned_can_be_read_but_not_relied_on() {
    let mut index = Index::default();
    let (going, staying) = (contents(&[1, 2]), contents(&[2, 3]));
    index.add(&going, true, &BTreeSet::from([Digest::of(&[1])]));
    assert_eq!(index.find(&Digest::of(&[1])), None, "rotten");
    assert!(index.find(&Digest::of(&[2])).is_some() && index.holds(&Digest::of(&[2])).is_none());
    index.add(&staying, false, &BTreeSet::new());
    assert_eq!(index.holds(&Digest::of(&[2])), Some(10));
    assert_eq!(index.find(&Digest::of(&[2])).unwrap().pack, staying.name);
}

#[test]
fn an_index_object_reads_back_or_not_at_all() {
    let packs = [contents(&[1, 2]), contents(&[3])];
    let written = write(&packs);
    assert_eq!(parse(&written).unwrap(), packs);
    for at in 0..written.len() {
        let mut flipped = written.clone();
        flipped[at] ^= 1;
        assert_eq!(parse(&flipped), None);
    }
}
