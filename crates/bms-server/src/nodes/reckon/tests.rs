use super::*;

#[test]
fn files_count_until_a_slot_is_seen_and_a_request_is_the_least() {
    let cases = [
        // expected, seen, grows, asked: bytes, by
        ((500, None, false, None), (500, Basis::Files)),
        ((500, None, false, Some(400)), (500, Basis::Files)),
        ((500, None, true, Some(600)), (600, Basis::Asked)),
        // A graph takes what it takes, more or less than its files say.
        ((500, Some(100), false, None), (125, Basis::Seen)),
        ((500, Some(800), false, None), (1000, Basis::Seen)),
        ((500, Some(100), false, Some(300)), (300, Basis::Asked)),
        ((500, Some(800), false, Some(300)), (1000, Basis::Seen)),
        // What a language model takes comes with its conversations.
        ((500, Some(100), true, None), (500, Basis::Files)),
        ((500, Some(800), true, None), (1000, Basis::Seen)),
        ((u64::MAX, Some(u64::MAX), true, Some(u64::MAX)), (u64::MAX, Basis::Files)),
    ];
    for ((expected, seen, grows, asked), (bytes, by)) in cases {
        let want = Reckoned { bytes, by };
        assert_eq!(reckon(expected, seen, grows, asked), want, "{expected} {seen:?} {grows} {asked:?}");
    }
}

#[test]
fn the_most_is_kept_as_long_as_the_version_is_wanted() {
    let of = |version| VersionName { model: "m".to_owned(), version };
    let mut seen = Seen::default();
    for bytes in [10, 30, 20] {
        seen.note(of(1), bytes);
    }
    seen.note(of(2), 5);
    assert_eq!((seen.of(&of(1)), seen.of(&of(2)), seen.of(&of(3))), (Some(30), Some(5), None));
    seen.keep(|of| of.version == 2);
    assert_eq!((seen.of(&of(1)), seen.of(&of(2))), (None, Some(5)));
}
