//! Cuts a text into the words that merges stay inside of.
//!
//! GGUF files name the cutting rules (`tokenizer.ggml.pre`) instead of holding them. Sources: the
//! `tokenizer.json` of the models that the names stand for, and the table in llama.cpp's `llama-vocab.cpp`.
//! An unknown name is refused: another cut gives other tokens, and nobody would notice.

use bms_wire::{Code, Error, Result};
use fancy_regex::Regex;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const DEEPSEEK_LETTERS: &str = r"\s?[A-Za-z\u{B5}\u{C0}-\u{D6}\u{D8}-\u{F6}\u{F8}-\u{1BA}\u{1BC}-\u{1BF}\u{1C4}-\u{293}\u{295}-\u{2AF}\u{370}-\u{373}\u{376}\u{377}\u{37B}-\u{37D}\u{37F}\u{386}\u{388}-\u{38A}\u{38C}\u{38E}-\u{3A1}\u{3A3}-\u{3F5}\u{3F7}-\u{481}\u{48A}-\u{52F}\u{531}-\u{556}\u{10A0}-\u{10C5}\u{13A0}-\u{13F5}\u{13F8}-\u{13FD}\u{1C90}-\u{1CBA}\u{1CBD}-\u{1CBF}\u{1D00}-\u{1D2B}\u{1D6B}-\u{1D77}\u{1D79}-\u{1D9A}\u{1E00}-\u{1F15}\u{1F18}-\u{1F1D}\u{1F20}-\u{1F45}\u{1F48}-\u{1F4D}\u{1F50}-\u{1F57}\u{1F59}\u{1F5B}\u{1F5D}\u{1F5F}-\u{1F7D}\u{1F80}-\u{1FB4}\u{1FB6}-\u{1FBC}\u{1FBE}\u{1FC2}-\u{1FC4}\u{1FC6}-\u{1FCC}\u{1FD0}-\u{1FD3}\u{1FD6}-\u{1FDB}\u{1FE0}-\u{1FEC}\u{1FF2}-\u{1FF4}\u{1FF6}-\u{1FFC}\u{2102}\u{2107}\u{210A}-\u{2113}\u{2115}\u{2119}-\u{211D}\u{2124}\u{2126}\u{2128}\u{212A}-\u{212D}\u{212F}-\u{2134}\u{2139}\u{213C}-\u{213F}\u{2145}-\u{2149}\u{214E}\u{2183}\u{2184}\u{2C00}-\u{2C7B}\u{2C7E}-\u{2CE4}\u{2CEB}-\u{2CEE}\u{2CF2}\u{2CF3}\u{A640}-\u{A66D}\u{A680}-\u{A69B}\u{A722}-\u{A76F}\u{A771}-\u{A787}\u{A78B}-\u{A78E}\u{AB70}-\u{ABBF}\u{FB00}-\u{FB06}\u{FB13}-\u{FB17}\u{FF21}-\u{FF3A}\u{FF41}-\u{FF5A}\u{10400}-\u{1044F}\u{104B0}-\u{104D3}\u{104D8}-\u{104FB}\u{10C80}-\u{10CB2}\u{10CC0}-\u{10CF2}\u{118A0}-\u{118DF}\u{1E900}-\u{1E943}]+";
const HAN_KANA: &str = r"[\u{4E00}-\u{9FA5}\u{3040}-\u{309F}\u{30A0}-\u{30FF}]+";
const HAN_HANGUL: &str = r"[\u{4E00}-\u{9FA5}\u{800}-\u{4E00}\u{AC00}-\u{D7FF}]+";
const BLOOM: &str = r" ?[^(\s|.,!?\u{2026}\u{3002}\u{FF0C}\u{3001}\u{964}\u{6D4}\u{60C})]+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut for one family of vocabularies.
pub(super) struct Rules {
    /// Patterns, each cutting what the ones before left.
    patterns: &'static [&'static str],
    /// Whether a word that is a token is taken as it is, without merges.
    pub(super) whole_words: bool,
    /// Whether a text begins with the begin token unless the file says otherwise.
    pub(super) begin: bool,
}

const fn rules(patterns: &'static [&'static str]) -> Rules {
    Rules { patterns, whole_words: false, begin: false }
}

/// The rules with this name.
///
/// Errors: [`Code::UnsupportedModel`] for an unknown name.
pub(super) fn named(name: &str) -> Result<Rules> {
    Ok(match name {
        "gpt-2" | "phi-2" | "jina-es" | "jina-de" | "jina-v2-es" | "jina-v2-de" | "jina-v1-en"
        | "jina-v2-code" | "roberta-bpe" | "gigachat" | "a.x-4.0" | "mellum" | "modern-bert" | "exaone4"
        | "mpt" | "olmo" | "jais" | "trillion" | "granite-docling" => rules(&[GPT2]),
        "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "falcon-h1" | "pixtral" | "midm-2.0" | "lfm2"
        | "jina-v5-nano" => Rules { whole_words: true, begin: true, ..rules(&[LLAMA3]) },
        "smaug-bpe" | "dbrx" | "chatglm-bpe" => rules(&[LLAMA3]),
        "glm4" | "glm5" => Rules { whole_words: true, ..rules(&[LLAMA3]) },
        "qwen2" | "deepseek-r1-qwen" | "kormo" | "f2llmv2" | "stablelm2" | "hunyuan" | "megrez"
        | "solar-open" | "grok-2" => rules(&[QWEN2]),
        "qwen35" => rules(&[QWEN35]),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" | "minerva-7b"
        | "mellum2" => rules(&[r"\p{N}", GPT2]),
        "tekken" => Rules { whole_words: true, begin: true, ..rules(&[TEKKEN]) },
        "gpt-4o" | "llama4" | "kanana2" | "minimax-m2" => rules(&[GPT4O]),
        "deepseek-v3" | "hunyuan-dense" | "joyai-llm" => rules(&[r"\p{N}{1,3}", HAN_KANA, DEEPSEEK3]),
        "deepseek-llm" => rules(&[
            r"[\r\n]",
            DEEPSEEK_LETTERS,
            r"\s?[!-/:-~\u{FF01}-\u{FF0F}\u{FF1A}-\u{FF5E}\u{2018}-\u{201F}\u{3000}-\u{3002}]+",
            r"\s+$",
            HAN_HANGUL,
            r"\p{N}+",
        ]),
        "deepseek-coder" => rules(&[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", HAN_HANGUL, r"\p{N}"]),
        "falcon" => rules(&[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
        "bloom" | "poro-chat" | "gpt3-finnish" => rules(&[BLOOM]),
        "viking" => rules(&[BLOOM, r"\p{N}"]),
        "bailingmoe" | "bailingmoe2" | "llada-moe" => rules(&[BAILING]),
        "seed-coder" => rules(&[SEED_CODER]),
        // Files from before the key was written. The first ones were of Llama's family or of GPT-2's.
        "default" => rules(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
        _ => {
            return Err(Error::new(
                Code::UnsupportedModel,
                format!("the tokenizer cuts texts by rules called `{name}`, which are not known here"),
            )
            .hint("Use the model's Hugging Face folder: its tokenizer.json holds the rules themselves."));
        }
    })
}

/// Names for rules that folders spell out, each in the form most files give.
const NAMES: [&str; 14] = [
    "gpt-2",
    "llama-bpe",
    "smaug-bpe",
    "glm4",
    "qwen2",
    "qwen35",
    "smollm",
    "tekken",
    "gpt-4o",
    "deepseek-v3",
    "deepseek-llm",
    "deepseek-coder",
    "bailingmoe",
    "seed-coder",
];

/// The name of rules that consist of these patterns; `gpt-2` among them stands for that pattern.
pub(in crate::lm) fn called(patterns: &[String], whole_words: bool) -> Option<&'static str> {
    let plain = |pattern: &str| match pattern {
        "gpt-2" => GPT2.to_owned(),
        other => unescaped(other),
    };
    let wanted: Vec<String> = patterns.iter().map(|pattern| plain(pattern)).collect();
    NAMES.into_iter().find(|name| {
        named(name).is_ok_and(|rules| {
            rules.whole_words == whole_words
                && rules.patterns.iter().map(|each| unescaped(each)).eq(wanted.iter().cloned())
        })
    })
}

/// A pattern with characters in place of their numbers, `\u{4E00}`.
fn unescaped(pattern: &str) -> String {
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once("\\u{") {
        out.push_str(before);
        let Some((digits, behind)) = behind.split_once('}') else { break };
        out.extend(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32));
        rest = behind;
    }
    out + rest
}

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Splitter(Vec<Regex>);

impl Splitter {
    pub(super) fn new(rules: &Rules) -> Result<Self> {
        let compiled = rules.patterns.iter().map(|pattern| Regex::new(pattern)).collect::<Result<_, _>>();
        compiled.map(Splitter).map_err(|error| {
            Error::new(Code::Internal, "failed to compile the rules that cut texts").because(error)
        })
    }

    /// Calls `word` with each word, in order; together they are the text.
    ///
    /// Errors: [`Code::InvalidInput`] when a pattern gives up, which takes a run of a million equal characters.
    pub(super) fn split<'t>(&self, text: &'t str, mut word: impl FnMut(&'t str)) -> Result<()> {
        let mut words = vec![text];
        let mut next = Vec::new();
        for pattern in &self.0 {
            for part in words.drain(..) {
                cut(pattern, part, &mut next)?;
            }
            std::mem::swap(&mut words, &mut next);
        }
        words.into_iter().filter(|part| !part.is_empty()).for_each(&mut word);
        Ok(())
    }
}

/// Matches and what lies between them.
fn cut<'t>(pattern: &Regex, text: &'t str, words: &mut Vec<&'t str>) -> Result<()> {
    let mut done = 0;
    for found in pattern.find_iter(text) {
        let found = found.map_err(|error| {
            Error::new(Code::InvalidInput, "the text cannot be cut into words").because(error)
        })?;
        if done < found.start() {
            words.push(&text[done..found.start()]);
        }
        words.push(found.as_str());
        done = found.end();
    }
    if done < text.len() {
        words.push(&text[done..]);
    }
    Ok(())
}
