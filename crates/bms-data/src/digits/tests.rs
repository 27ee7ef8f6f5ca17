use super::*;

#[test]
fn all_digits_are_there_in_balanced_classes() {
    let set = digits().unwrap();
    assert_eq!(set.samples.len(), 1797);
    // Counts as scikit-learn's `load_digits` documents them.
    let mut counts = [0; 10];
    set.samples.iter().for_each(|s| counts[s.label] += 1);
    assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
    assert_eq!(set.samples[0].image.pixels[..8], [0, 0, 80, 207, 143, 16, 0, 0]);
    assert_eq!(set.samples[0].name, "digit-00000");
}
