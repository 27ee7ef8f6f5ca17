use super::*;

fn set() -> ImageSet {
    let image = |v: u8| Image::new(2, 1, 1, vec![v, v / 2]).unwrap();
    let samples = (0..40)
        .map(|i| ImageSample { name: format!("s{i}"), label: usize::from(i % 4 == 0), image: image(i) })
        .collect();
    ImageSet { labels: vec!["a".into(), "b".into()], samples }
}

#[test]
fn the_digest_sees_content_and_labels_but_not_order_or_names() {
    let original = set();
    let mut shuffled = original.clone();
    shuffled.samples.reverse();
    shuffled.samples[0].name = "other".into();
    assert_eq!(shuffled.digest(), original.digest());

    let mut changed = original.clone();
    changed.samples[3].image.pixels[0] ^= 1;
    assert_ne!(changed.digest(), original.digest());

    let mut relabelled = original.clone();
    relabelled.samples[3].label ^= 1;
    assert_ne!(relabelled.digest(), original.digest());

    let mut twice = original.clone();
    twice.samples.push(original.samples[0].clone());
    assert_ne!(twice.digest(), original.digest());
}

#[test]
fn a_split_keeps_the_classes_shares_and_loses_nothing() {
    let (first, second) = set().split(0.8, 3).unwrap();
    assert_eq!((first.samples.len(), second.samples.len()), (32, 8));
    assert_eq!(first.samples.iter().filter(|s| s.label == 1).count(), 8);
    let mut names: Vec<_> = first.samples.iter().chain(&second.samples).map(|s| s.name.clone()).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 40);
    assert_eq!(set().split(0.8, 3).unwrap(), (first.clone(), second));
    assert_ne!(set().split(0.8, 4).unwrap().0, first);
    assert!(set().split(1.5, 0).is_err());
    assert!(set().split(f64::NAN, 0).is_err());
}

#[test]
fn a_merge_maps_labels_by_name_and_refuses_unknown_ones() {
    let mut all = set();
    let mut other = set();
    other.labels = vec!["b".into(), "a".into()];
    all.merge(&other).unwrap();
    assert_eq!(all.samples[40].label, 1 - other.samples[0].label);

    other.labels[0] = "c".into();
    assert_eq!(all.merge(&other).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(all.samples.len(), 80, "a refused merge changes nothing");
}
