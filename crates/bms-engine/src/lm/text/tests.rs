use super::*;

/// Pushes the pieces; what each gave, and how it ended.
fn run(stops: &[&str], pieces: &[&[u8]]) -> (Vec<String>, Option<usize>) {
    let stops: Vec<String> = stops.iter().map(|s| (*s).to_owned()).collect();
    let (mut text, mut given) = (Text::new(&stops), Vec::new());
    for piece in pieces {
        let clear = text.push(piece, true);
        given.push(clear.text);
        if clear.stop.is_some() {
            return (given, clear.stop);
        }
    }
    given.push(text.finish());
    (given, None)
}

#[test]
fn text_without_stops_comes_at_once() {
    assert_eq!(
        run(&[], &[b"Hello", b" world"]),
        (vec!["Hello".into(), " world".into(), String::new()], None)
    );
}

#[test]
fn characters_come_whole() {
    let bytes = "a€😀".as_bytes();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    let (given, _) = run(&[], &pieces);
    assert_eq!(given, ["a", "", "", "€", "", "", "", "😀", ""]);
}

#[test]
fn bytes_that_are_no_characters_are_replaced() {
    assert_eq!(run(&[], &[b"a\xffb"]).0, ["a\u{fffd}b", ""]);
    assert_eq!(run(&[], &[b"a\xe2\x82"]).0, ["a", "\u{fffd}"]);
    assert_eq!(run(&[], &[b"\xe2", b"x"]).0, ["", "\u{fffd}x", ""]);
    assert_eq!(run(&[], &[b"\x80\x80\x80\x80"]).0.concat().chars().count(), 4);
}

#[test]
fn a_stop_string_is_found_across_tokens() {
    assert_eq!(
        run(&["STOP"], &[b"one S", b"TO", b"P two"]),
        (vec!["one ".into(), "".into(), "".into()], Some(0))
    );
    assert_eq!(run(&["STOP"], &[b"one S", b"TO", b"RE"]).0, ["one ", "", "STORE", ""]);
    assert_eq!(run(&["STOP"], &[b"ST"]).0, ["", "ST"]);
    assert_eq!(
        run(&["aab"], &[b"a", b"a", b"a", b"b"]),
        (vec!["".into(), "".into(), "a".into(), "".into()], Some(0))
    );
}

#[test]
fn the_earliest_stop_wins() {
    assert_eq!(run(&["b", "ab"], &[b"xab"]), (vec!["x".into()], Some(1)));
    assert_eq!(run(&["ab", "abc"], &[b"xabc"]), (vec!["x".into()], Some(0)));
}

#[test]
fn stops_may_begin_inside_characters_of_many_bytes() {
    let euro = "€".as_bytes();
    assert_eq!(
        run(&["€"], &[b"1 ", &euro[..1], &euro[1..]]),
        (vec!["1 ".into(), "".into(), "".into()], Some(0))
    );
}

#[test]
fn before_the_least_length_nothing_stops() {
    let mut text = Text::new(&["x".to_owned()]);
    assert_eq!(text.push(b"axb", false), Clear { text: "axb".into(), stop: None });
    assert_eq!(text.push(b"axb", true), Clear { text: "a".into(), stop: Some(0) });
}

#[test]
fn pieces_of_any_size_give_the_same() {
    let whole = "Grüße, 世界! END of it";
    for size in 1..whole.len() {
        let pieces: Vec<&[u8]> = whole.as_bytes().chunks(size).collect();
        let (given, stop) = run(&["END", "世x"], &pieces);
        assert_eq!((given.concat().as_str(), stop), ("Grüße, 世界! ", Some(0)), "{size}");
    }
}
