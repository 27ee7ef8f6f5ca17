//! The tokenizer of a folder as the key-value pairs of a GGUF file.
//!
//! The file names an algorithm and its cutting rules; the folder holds the rules themselves. What has no name,
//! and what does not give the same tokens on some texts afterwards, is refused.

use bms_wire::{Code, Error, Result};
use serde_json::Value;

use crate::lm::Tokenizer;
use crate::lm::gguf::{GgufFile, GgufWriter, Pair};
use crate::lm::hf::HfFolder;
use crate::lm::tokenizer::{TokenKind, rules_called, token_text};

/// Texts on which both forms of a tokenizer must agree.
const PROBES: [&str; 12] = [
    "Hello, world! It's I'll you're WE'VE don't",
    "  leading and  double   spaces\tand\ttabs \n\n\nnew lines\r\n  ",
    "0 12 345 6789 12345678901 3.14 1,000,000 ½ ② ٣",
    "def f(x):\n    return {\"a\": [1, 2], 'b': x ** 2}  # comment\n",
    "你好，世界！今天天气怎么样？中文没有空格。",
    "こんにちは世界 안녕하세요 세계 Привет, мир! Γειά σου Κόσμε",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया สวัสดีชาวโลก",
    "😀 👩‍👩‍👧 🇩🇪 ✨—“quotes” … «» ‹›",
    "naïve café Ünïcödé ǅ ß ﬁ Ⅷ",
    "<html><body class=\"x\">&amp;</body></html> https://example.org/a?b=c#d",
    "\u{1}\u{7f}\u{200b}\u{a0}x",
    "UPPER lower CamelCase snake_case kebab-case SCREAMING_CASE",
];

fn unsupported(what: impl std::fmt::Display) -> Error {
    Error::new(Code::UnsupportedModel, format!("a GGUF file cannot hold the tokenizer: {what}"))
        .hint("Serve the folder itself.")
}

fn invalid(what: impl std::fmt::Display) -> Error {
    Error::new(Code::InvalidBundle, format!("tokenizer.json is invalid: {what}"))
}

/// The pairs of a tokenizer for an embedding of `rows` rows, and the chat template.
pub(super) fn pairs(folder: &HfFolder<'_>, rows: usize) -> Result<Vec<(String, Pair)>> {
    let original = folder.tokenizer()?;
    original.check_rows(rows)?;
    let json: Value = serde_json::from_slice(folder.tokenizer_json()?).map_err(invalid)?;
    let model = json.get("model").ok_or_else(|| invalid("it has no model"))?;
    let kind = model.get("type").and_then(Value::as_str).unwrap_or("BPE");
    let mut out = Pairs(Vec::new());
    match kind {
        "BPE" if is_byte_level(&json) => byte_level(&json, model, &mut out)?,
        "BPE" if model.get("byte_fallback") == Some(&Value::Bool(true)) => pieces(&json, model, &mut out)?,
        "WordPiece" => words(&json, &mut out)?,
        _ => return Err(unsupported(format_args!("it is a `{kind}` of a form that has no name"))),
    }
    out.tokens(&json, model, kind, &original, rows)?;
    out.marks(folder, &original, kind)?;
    out.agrees(&original)?;
    out.template(folder)?;
    Ok(out.0)
}

struct Pairs(Vec<(String, Pair)>);

impl Pairs {
    fn put(&mut self, key: &str, value: Pair) {
        self.0.push((format!("tokenizer.{key}"), value));
    }

    /// The texts and kinds of all tokens; rows without a token get a text that no other has.
    fn tokens(
        &mut self,
        json: &Value,
        model: &Value,
        kind: &str,
        original: &Tokenizer,
        rows: usize,
    ) -> Result<()> {
        let vocab =
            model.get("vocab").and_then(Value::as_object).ok_or_else(|| invalid("it has no vocabulary"))?;
        let mut texts: Vec<Vec<u8>> = (0..rows).map(|row| format!("[PAD{row}]").into_bytes()).collect();
        let mut set = |id: &Value, text: &str| -> Result<()> {
            let id = id.as_u64().and_then(|id| usize::try_from(id).ok());
            let place = id.and_then(|id| texts.get_mut(id)).ok_or_else(|| invalid("a token has no row"))?;
            *place = text.as_bytes().to_vec();
            Ok(())
        };
        for (text, id) in vocab {
            let place = id.as_u64().and_then(|id| u32::try_from(id).ok());
            let control = place.is_some_and(|id| original.is_control(id));
            match (kind, text.strip_prefix("##")) {
                ("WordPiece", _) if control => set(id, text)?,
                ("WordPiece", Some(rest)) => set(id, rest)?,
                ("WordPiece", None) => set(id, &format!("\u{2581}{text}"))?,
                _ => set(id, text)?,
            }
        }
        for token in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
            let (Some(id), Some(text)) = (token.get("id"), token.get("content").and_then(Value::as_str))
            else {
                return Err(invalid("an added token has no number or no text"));
            };
            set(id, text)?;
        }
        let kinds =
            (0..rows as u32).map(|id| original.kind(id).unwrap_or(TokenKind::Unused).number()).collect();
        self.put("ggml.tokens", Pair::Texts(texts));
        self.put("ggml.token_type", Pair::Wholes(kinds));
        Ok(())
    }

    /// The numbers of special tokens, and which of them frame a text.
    fn marks(&mut self, folder: &HfFolder<'_>, original: &Tokenizer, kind: &str) -> Result<()> {
        let named = |name: &str| {
            let text = folder.tokenizer_config().and_then(|config| token_text(config, name));
            text.and_then(|text| original.token(text.as_bytes()))
        };
        let bert = kind == "WordPiece";
        let bos =
            if bert { named("cls_token").or(original.begin().first().copied()) } else { original.bos() };
        let ids = [
            ("bos", bos),
            ("eos", original.eos()),
            ("unknown", named("unk_token")),
            ("padding", named("pad_token")),
            ("seperator", named("sep_token").or(original.end().first().copied().filter(|_| bert))),
            ("cls", named("cls_token").filter(|_| bert)),
            ("mask", named("mask_token")),
        ];
        for (name, id) in ids {
            if let Some(id) = id {
                self.put(&format!("ggml.{name}_token_id"), Pair::U32(id));
            }
        }
        // Files know one more token that ends an answer: that of a turn.
        let turn = original.ends().iter().find(|id| Some(**id) != original.eos());
        if let Some(id) = turn.filter(|_| !bert) {
            self.put("ggml.eot_token_id", Pair::U32(*id));
        }
        self.put("ggml.add_bos_token", Pair::Bool(!original.begin().is_empty()));
        if !bert {
            self.put("ggml.add_eos_token", Pair::Bool(!original.end().is_empty()));
        }
        Ok(())
    }

    /// Refuses when the file's tokenizer would give other tokens.
    fn agrees(&self, original: &Tokenizer) -> Result<()> {
        let bytes = GgufWriter::new(Vec::new(), &self.0, Vec::new())?.finish()?;
        let written = Tokenizer::from_gguf(&GgufFile::parse(&bytes)?.metadata)?;
        for probe in PROBES {
            let (wanted, found) = (original.encode(probe, true, false)?, written.encode(probe, true, false)?);
            if wanted != found {
                return Err(unsupported(format_args!("the text {probe:?} would have other tokens")));
            }
        }
        Ok(())
    }

    fn template(&mut self, folder: &HfFolder<'_>) -> Result<()> {
        if let Some(source) = folder.template_source()? {
            self.put("chat_template", Pair::Text(source.to_owned()));
            return Ok(());
        }
        match folder.tokenizer_config().and_then(|config| config.get("chat_template")) {
            Some(Value::String(source)) => self.put("chat_template", Pair::Text(source.clone())),
            Some(Value::Array(list)) => {
                for entry in list {
                    let (name, source) = (entry.get("name"), entry.get("template").and_then(Value::as_str));
                    match (name.and_then(Value::as_str), source) {
                        (Some("default"), Some(source)) => {
                            self.put("chat_template", Pair::Text(source.to_owned()))
                        }
                        (Some(name), Some(source)) => {
                            self.put(&format!("chat_template.{name}"), Pair::Text(source.to_owned()));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The steps of a list or of a single component.
fn steps<'a>(json: &'a Value, part: &str, list: &str) -> Vec<&'a Value> {
    match json.get(part) {
        None | Some(Value::Null) => Vec::new(),
        Some(step) => match step.get(list).and_then(Value::as_array) {
            Some(steps) => steps.iter().collect(),
            None => vec![step],
        },
    }
}

fn kind_of(step: &Value) -> &str {
    step.get("type").and_then(Value::as_str).unwrap_or("?")
}

fn is_byte_level(json: &Value) -> bool {
    steps(json, "pre_tokenizer", "pretokenizers").into_iter().any(|step| kind_of(step) == "ByteLevel")
}

fn flag(step: &Value, name: &str) -> bool {
    step.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn byte_level(json: &Value, model: &Value, out: &mut Pairs) -> Result<()> {
    for step in steps(json, "normalizer", "normalizers") {
        // Texts come in this form already; files have no word for it, and their other readers leave it out.
        if kind_of(step) != "NFC" {
            return Err(unsupported(format_args!("it changes texts by `{}`", kind_of(step))));
        }
    }
    let mut patterns = Vec::new();
    for step in steps(json, "pre_tokenizer", "pretokenizers") {
        match kind_of(step) {
            "Split" => {
                let pattern = step.get("pattern").and_then(|pattern| pattern.get("Regex")?.as_str());
                let isolated =
                    matches!(step.get("behavior").and_then(Value::as_str), Some("Isolated" | "Removed"));
                match pattern.filter(|_| isolated) {
                    Some(pattern) => patterns.push(pattern.to_owned()),
                    None => return Err(unsupported("it cuts texts at something else than a pattern")),
                }
            }
            "Digits" if flag(step, "individual_digits") => patterns.push(r"\p{N}".into()),
            "ByteLevel" if flag(step, "add_prefix_space") => {
                return Err(unsupported("it puts a space in front of texts"));
            }
            "ByteLevel" if step.get("use_regex") != Some(&Value::Bool(false)) => {
                patterns.push("gpt-2".into())
            }
            "ByteLevel" => {}
            other => return Err(unsupported(format_args!("it cuts texts by `{other}`"))),
        }
    }
    let whole_words = flag(model, "ignore_merges");
    let name = rules_called(&patterns, whole_words)
        .ok_or_else(|| unsupported("its rules for cutting texts have no name"))?;
    out.put("ggml.model", Pair::Text("gpt2".into()));
    out.put("ggml.pre", Pair::Text(name.into()));
    let merges = merges(model)?.into_iter().map(|(left, right)| format!("{left} {right}").into_bytes());
    out.put("ggml.merges", Pair::Texts(merges.collect()));
    Ok(())
}

/// The merges of a model, in order: `"a b"` each, or `["a", "b"]`.
fn merges(model: &Value) -> Result<Vec<(&str, &str)>> {
    let list = model.get("merges").and_then(Value::as_array).ok_or_else(|| invalid("it has no merges"))?;
    fn pair(merge: &Value) -> Option<(&str, &str)> {
        match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(parts) => Some((parts.first()?.as_str()?, parts.get(1)?.as_str()?)),
            _ => None,
        }
    }
    list.iter().map(|merge| pair(merge).ok_or_else(|| invalid("a merge is no pair"))).collect()
}

/// SentencePiece: the scores follow from the order of the merges, which was made of the scores.
fn pieces(json: &Value, model: &Value, out: &mut Pairs) -> Result<()> {
    let mut prefix = false;
    for step in steps(json, "normalizer", "normalizers") {
        match kind_of(step) {
            "Prepend" => prefix = true,
            "Replace" => {}
            other => return Err(unsupported(format_args!("it changes texts by `{other}`"))),
        }
    }
    for step in steps(json, "pre_tokenizer", "pretokenizers") {
        match kind_of(step) {
            "Metaspace" => {
                let scheme = step.get("prepend_scheme").and_then(Value::as_str);
                prefix |= scheme.map_or(flag(step, "add_prefix_space"), |scheme| scheme != "never");
            }
            // Spaces are no spaces any more when this step cuts at them.
            "Split" if step.get("pattern").and_then(|p| p.get("String")?.as_str()) == Some(" ") => {}
            other => return Err(unsupported(format_args!("it cuts texts by `{other}`"))),
        }
    }
    let vocab =
        model.get("vocab").and_then(Value::as_object).ok_or_else(|| invalid("it has no vocabulary"))?;
    let length = vocab.values().filter_map(Value::as_u64).max().map_or(0, |id| id as usize + 1);
    let merges = merges(model)?;
    let mut scores = vec![-(merges.len() as f32) - 1.0; length];
    for (rank, (left, right)) in merges.iter().enumerate().rev() {
        let id = vocab.get(&format!("{left}{right}")).and_then(Value::as_u64);
        let place = id.and_then(|id| scores.get_mut(id as usize));
        *place.ok_or_else(|| invalid("a merge makes something that is no token"))? = -(rank as f32);
    }
    out.put("ggml.model", Pair::Text("llama".into()));
    out.put("ggml.pre", Pair::Text("default".into()));
    out.put("ggml.add_space_prefix", Pair::Bool(prefix));
    out.put("ggml.scores", Pair::Reals(scores));
    Ok(())
}

fn words(json: &Value, out: &mut Pairs) -> Result<()> {
    let [normalizer] = steps(json, "normalizer", "normalizers")[..] else {
        return Err(unsupported("it does not change texts as BERT does"));
    };
    let cutters = steps(json, "pre_tokenizer", "pretokenizers");
    if kind_of(normalizer) != "BertNormalizer"
        || cutters.iter().any(|step| kind_of(step) != "BertPreTokenizer")
    {
        return Err(unsupported("it does not change and cut texts as BERT does"));
    }
    let lowercase = flag(normalizer, "lowercase");
    let accents = normalizer.get("strip_accents").and_then(Value::as_bool).unwrap_or(lowercase);
    out.put("ggml.model", Pair::Text("bert".into()));
    out.put("ggml.pre", Pair::Text("default".into()));
    out.put("ggml.normalizer.lowercase", Pair::Bool(lowercase));
    out.put("ggml.normalizer.strip_accents", Pair::Bool(accents));
    Ok(())
}
