use bms_wire::Code;

use super::specials::Special;
use super::*;
use crate::lm::gguf::{GgufFile, GgufWriter, Pair};

/// A file without tensors.
fn gguf(pairs: &[(&str, Pair)]) -> Vec<u8> {
    let pairs: Vec<(String, Pair)> =
        pairs.iter().map(|(key, pair)| (format!("tokenizer.ggml.{key}"), pair.clone())).collect();
    GgufWriter::new(Vec::new(), &pairs, Vec::new()).unwrap().finish().unwrap()
}

fn read(pairs: &[(&str, Pair)]) -> Result<Tokenizer> {
    let bytes = gguf(pairs);
    Tokenizer::from_gguf(&GgufFile::parse(&bytes).unwrap().metadata)
}

fn texts(texts: &[&str]) -> Pair {
    Pair::Texts(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn text(text: &str) -> Pair {
    Pair::Text(text.into())
}

/// `a`, `b`, `c`, space, joined in the order ab, bc, abc, " a".
fn letters(kinds: Vec<i32>) -> Vec<(&'static str, Pair)> {
    vec![
        ("model", text("gpt2")),
        ("pre", text("gpt-2")),
        ("tokens", texts(&["a", "b", "c", "Ġ", "ab", "bc", "abc", "Ġa", "<|im_end|>", "<x>"])),
        ("token_type", Pair::Wholes(kinds)),
        ("merges", texts(&["a b", "b c", "ab c", "Ġ a"])),
    ]
}

const KINDS: [i32; 10] = [1, 1, 1, 1, 1, 1, 1, 1, 3, 4];

#[test]
fn neighbours_are_joined_in_the_order_of_the_merges() {
    let tokenizer = read(&letters(KINDS.to_vec())).unwrap();
    let encode = |text: &str| tokenizer.encode(text, true, false).unwrap();
    assert_eq!(encode("abc"), [6]);
    assert_eq!(encode("bcab"), [5, 4]);
    // " ab": `ab` comes before ` a`.
    assert_eq!(encode("c ab"), [2, 3, 4]);
    assert_eq!(encode("c a"), [2, 7]);
    assert_eq!(encode(""), [0; 0]);
    // Bytes that no token can write are left out, as the reference leaves them out.
    assert_eq!(encode("aéc"), [0, 2]);
    assert_eq!(tokenizer.token_bytes(7), b" a");
    assert_eq!(tokenizer.decode(&[2, 7, 8, 9, 99]), b"c a<x>");
}

#[test]
fn control_tokens_are_found_only_when_asked_for() {
    let tokenizer = read(&letters(KINDS.to_vec())).unwrap();
    assert_eq!(tokenizer.encode("a<|im_end|>b<x>", false, true).unwrap(), [0, 8, 1, 9]);
    assert_eq!(tokenizer.encode("a<|im_end|>b<x>", false, false).unwrap(), [0, 1, 9]);
    assert!(tokenizer.is_control(8) && !tokenizer.is_control(9));
    assert_eq!(tokenizer.ends(), [8]);
    assert!(tokenizer.is_end(8) && !tokenizer.is_end(9));
}

#[test]
fn a_control_token_that_was_not_marked_is_one() {
    let mut kinds = KINDS.to_vec();
    kinds[8] = 1;
    assert_eq!(read(&letters(kinds)).unwrap().kind(8), Some(TokenKind::Control));
}

#[test]
fn flags_say_what_frames_a_text() {
    let mut pairs = letters(KINDS.to_vec());
    pairs.push(("bos_token_id", Pair::U32(9)));
    pairs.push(("eos_token_id", Pair::U32(8)));
    pairs.push(("add_bos_token", Pair::Bool(true)));
    pairs.push(("add_eos_token", Pair::Bool(true)));
    let tokenizer = read(&pairs).unwrap();
    assert_eq!(tokenizer.encode("abc", true, false).unwrap(), [9, 6, 8]);
    assert_eq!(tokenizer.encode("abc", false, false).unwrap(), [6]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(9), Some(8)));
}

#[track_caller]
fn refused(change: impl FnOnce(&mut Vec<(&'static str, Pair)>), code: Code, part: &str) {
    let mut pairs = letters(KINDS.to_vec());
    change(&mut pairs);
    let error = read(&pairs).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.message().contains(part), "`{error}` does not say `{part}`");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let without = |key: &'static str| move |pairs: &mut Vec<_>| pairs.retain(|(name, _)| *name != key);
    refused(without("model"), Code::InvalidBundle, "no tokenizer");
    refused(without("tokens"), Code::InvalidBundle, "no tokens");
    refused(without("merges"), Code::InvalidBundle, "no merges");
    refused(without("pre"), Code::UnsupportedModel, "by which rules");
    let with = |key: &'static str, value: Pair| {
        move |pairs: &mut Vec<(&'static str, Pair)>| {
            pairs.retain(|(name, _)| *name != key);
            pairs.push((key, value));
        }
    };
    refused(with("pre", text("newest")), Code::UnsupportedModel, "`newest`");
    refused(with("model", text("t5")), Code::UnsupportedModel, "`t5`");
    refused(with("merges", texts(&["a b", "a c"])), Code::InvalidBundle, "merge 1 of the tokenizer, `a c`");
    refused(with("merges", texts(&["ab"])), Code::InvalidBundle, "merge 0");
    refused(with("token_type", Pair::Wholes(vec![1])), Code::InvalidBundle, "kinds for 1 of 10");
    refused(with("eos_token_id", Pair::U32(10)), Code::InvalidBundle, "special token 10");
    refused(with("tokens", Pair::Reals(vec![1.0])), Code::InvalidBundle, "array of texts");
    refused(with("tokens", texts(&[])), Code::InvalidBundle, "merge 0");
    let tokenizer = read(&letters(KINDS.to_vec())).unwrap();
    assert_eq!(tokenizer.check_rows(9).unwrap_err().code(), Code::InvalidBundle);
    tokenizer.check_rows(10).unwrap();
    tokenizer.check_rows(64).unwrap();
}

/// Pieces of `ab`, with all bytes or none.
fn scored(bytes: bool) -> Vec<(&'static str, Pair)> {
    let mut words: Vec<String> =
        ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "▁ab"].map(String::from).into();
    let mut kinds = vec![2, 3, 3, 1, 1, 1, 1, 1, 1];
    let mut scores = vec![0.0, 0.0, 0.0, -5.0, -6.0, -7.0, -2.0, -1.0, -3.0];
    if bytes {
        words.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
        kinds.resize(words.len(), 6);
        scores.resize(words.len(), 0.0);
    }
    vec![
        ("model", text("llama")),
        ("tokens", Pair::Texts(words.into_iter().map(String::into_bytes).collect())),
        ("token_type", Pair::Wholes(kinds)),
        ("scores", Pair::Reals(scores)),
    ]
}

#[test]
fn pieces_are_joined_in_the_order_of_their_scores() {
    let tokenizer = read(&scored(true)).unwrap();
    let encode = |text: &str| tokenizer.encode(text, false, true).unwrap();
    // "▁a" is better than "ab", and "▁ab" is made of it.
    assert_eq!(encode("ab"), [8]);
    assert_eq!(encode("abab"), [8, 6]);
    assert_eq!(encode(""), [0; 0]);
    // A space stands in front of a text, also behind a control token.
    assert_eq!(encode("a<s>a"), [7, 1, 7]);
    assert_eq!(encode("a▁a"), encode("a a"));
    assert_eq!(encode("é"), [3, 9 + 0xC3, 9 + 0xA9]);
    assert_eq!(tokenizer.encode("<s>", false, false).unwrap()[..2], [3, 9 + u32::from(b'<')]);
    assert_eq!(tokenizer.encode("a", true, false).unwrap(), [1, 7]);
    assert_eq!(tokenizer.decode(&[8, 9 + 0xC3, 9 + 0xA9]), " abé".as_bytes());
    assert_eq!(tokenizer.ends(), [2]);
}

#[test]
fn without_byte_tokens_the_unknown_token_stands_in() {
    let tokenizer = read(&scored(false)).unwrap();
    assert_eq!(tokenizer.encode("aéb", false, false).unwrap(), [7, 0, 5]);
}

#[test]
fn half_a_set_of_byte_tokens_is_refused() {
    let mut pairs = scored(false);
    pairs[1].1 = texts(&["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "<0x00>"]);
    pairs[2].1 = Pair::Wholes(vec![2, 3, 3, 1, 1, 1, 1, 1, 6]);
    assert!(read(&pairs).unwrap_err().message().contains("1 of 256 bytes"));
    pairs.retain(|(key, _)| *key != "scores");
    assert!(read(&pairs).unwrap_err().message().contains("no scores"));
}

#[test]
fn words_are_made_of_the_longest_pieces() {
    let words = ["[UNK]", "[CLS]", "[SEP]", "▁un", "happi", "ness", "▁happy", "▁,"];
    let tokenizer = read(&[
        ("model", text("bert")),
        ("tokens", texts(&words)),
        ("token_type", Pair::Wholes(vec![3, 3, 3, 1, 1, 1, 1, 1])),
        ("unknown_token_id", Pair::U32(0)),
        ("bos_token_id", Pair::U32(1)),
        ("seperator_token_id", Pair::U32(2)),
    ])
    .unwrap();
    let encode = |text: &str| tokenizer.encode(text, true, false).unwrap();
    assert_eq!(encode("Unhappiness, HÁPPY"), [1, 3, 4, 5, 7, 6, 2]);
    assert_eq!(encode("unhappy"), [1, 0, 2]);
    assert_eq!(tokenizer.decode(&[1, 3, 4, 5, 7, 2]), b" unhappiness ,");
}

#[test]
fn the_longest_special_token_wins() {
    let names: [&[u8]; 3] = [b"<a>", b"<a><b>", b""];
    let special = |id| Special { id, control: id == 0, strip_before: id == 1, strip_behind: id == 1 };
    let specials = Specials::new(&[special(0), special(1), special(2)], |id| names[id as usize]).unwrap();
    let partition = |text: &str, control: bool| {
        let mut parts = Vec::new();
        let mut keep = |part: Fragment<'_>| {
            parts.push(match part {
                Fragment::Text(text) => text.to_string(),
                Fragment::Token(id) => id.to_string(),
            });
            Ok(())
        };
        specials.partition(text, control, &mut keep).unwrap();
        parts
    };
    assert_eq!(partition("x <a><b> y<a>z", true), ["x", "1", "y", "0", "z"]);
    assert_eq!(partition("x <a><b> y<a>z", false), ["x", "1", "y<a>z"]);
    assert_eq!(partition("<a>", true), ["0"]);
    assert_eq!(partition("  <a><b>  ", true), ["1"]);
}

#[test]
fn all_bytes_have_a_letter() {
    let letters: Vec<String> = (0..0x180).filter_map(char::from_u32).map(String::from).collect();
    let mut bytes: Vec<u8> =
        letters.iter().filter_map(|letter| byte_level::decode(letter)).flatten().collect();
    bytes.sort_unstable();
    assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
    assert_eq!(byte_level::decode("Ġ"), Some(b" ".to_vec()));
    assert_eq!(byte_level::decode("Ċ"), Some(b"\n".to_vec()));
    assert_eq!(byte_level::decode("▁"), None);
}

#[test]
fn every_name_of_rules_compiles() {
    for name in ["gpt-2", "llama-bpe", "smaug-bpe", "glm4", "qwen2", "qwen35", "smollm", "tekken", "gpt-4o"]
        .into_iter()
        .chain(["deepseek-v3", "deepseek-llm", "deepseek-coder", "falcon", "bloom", "viking", "bailingmoe"])
        .chain(["seed-coder", "default"])
    {
        let splitter = split::Splitter::new(&split::named(name).unwrap()).unwrap();
        let text = "Hello, wörld's  \n\n 12345 你好！ \t x";
        let mut words = String::new();
        splitter.split(text, |word| words.push_str(word)).unwrap();
        assert_eq!(words, text, "{name}");
    }
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let tokenizer = read(&letters(KINDS.to_vec())).unwrap();
    let long = "a".repeat(limits::TOKENIZE_BYTES_MAX + 1);
    assert_eq!(tokenizer.encode(&long, false, false).unwrap_err().code(), Code::TooLarge);
}
