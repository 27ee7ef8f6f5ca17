//! A decoder and a tokeniser for tests: tokens are bytes, and the model says what the prompt tells it to.

use std::time::Duration;

use bms_engine::lm::Vocabulary;
use bms_nn::lm::{Decoder, DecoderInfo, LogitRows, PageId, Segment};
use bms_wire::Result;
use serde_json::{Map, Value};

use crate::slot::language::Script;

/// Ends an answer.
const END: u32 = 256;
const VOCAB: usize = 257;
const PAGE_TOKENS: usize = 16;
const PAGES: usize = 1024;
pub(super) const CONTEXT: usize = 8192;

/// Says TEXT where the prompt has `say:TEXT~`, after the last `assistant:`; without end where it says `forever`.
pub(in crate::slot::language) struct Echo {
    info: DecoderInfo,
    pause: Duration,
    /// The tokens in each page: what keys and values are to a real model.
    pages: Vec<[u32; PAGE_TOKENS]>,
}

impl Echo {
    pub(super) fn new(pause: Duration) -> Self {
        let info = DecoderInfo {
            name: "echo".into(),
            arch: "echo".into(),
            vocab: VOCAB,
            context: CONTEXT,
            layers: 1,
            d_model: 4,
            pages: PAGES,
            page_tokens: PAGE_TOKENS,
            kv_bytes_per_token: 4,
            parameters: 0,
            weight_bytes: 0,
        };
        Echo { info, pause, pages: vec![[0; PAGE_TOKENS]; PAGES] }
    }

    fn sequence(&mut self, segment: &Segment<'_>) -> Vec<u8> {
        for (offset, token) in segment.tokens.iter().enumerate() {
            let at = segment.start + offset;
            self.pages[segment.pages[at / PAGE_TOKENS] as usize][at % PAGE_TOKENS] = *token;
        }
        let length = segment.start + segment.tokens.len();
        (0..length)
            .map(|at| self.pages[segment.pages[at / PAGE_TOKENS] as usize][at % PAGE_TOKENS])
            .map(|token| u8::try_from(token).unwrap_or(0))
            .collect()
    }
}

/// The likeliest token after this text.
fn next(text: &[u8]) -> u32 {
    let find = |what: &[u8]| text.windows(what.len()).rposition(|window| window == what);
    let Some(begun) = find(b"assistant:").map(|at| at + b"assistant:".len()) else { return END };
    let prompt = &text[..begun];
    let Some(said) = prompt.windows(4).rposition(|window| window == b"say:").map(|at| at + 4) else {
        return END;
    };
    let Some(length) = prompt[said..].iter().position(|b| *b == b'~') else { return END };
    let told = &prompt[said..said + length];
    match told.get(text.len() - begun) {
        Some(byte) => u32::from(*byte),
        None if told.ends_with(b"forever") => u32::from(b'.'),
        None => END,
    }
}

impl Decoder for Echo {
    fn info(&self) -> &DecoderInfo {
        &self.info
    }

    fn forward(&mut self, batch: &[Segment<'_>], logits: &mut Vec<f32>) -> Result<()> {
        std::thread::sleep(self.pause);
        for segment in batch {
            let text = self.sequence(segment);
            let first = match segment.logits {
                LogitRows::None => continue,
                LogitRows::Last => text.len(),
                LogitRows::All => segment.start + 1,
            };
            for length in first..=text.len() {
                let from = logits.len();
                logits.resize(from + VOCAB, 0.0);
                logits[from + next(&text[..length]) as usize] = 20.0;
            }
        }
        Ok(())
    }

    fn hidden(&mut self, batch: &[Segment<'_>], states: &mut Vec<f32>) -> Result<()> {
        for token in batch.iter().flat_map(|segment| segment.tokens) {
            states.extend([*token as f32, 1.0, 2.0, 3.0]);
        }
        Ok(())
    }

    fn copy_page(&mut self, from: PageId, to: PageId) {
        self.pages[to as usize] = self.pages[from as usize];
    }
}

/// Bytes as tokens, and a template of a word before each message.
#[derive(Debug)]
pub(in crate::slot::language) struct Letters {
    bytes: Vec<Vec<u8>>,
}

impl Letters {
    pub(in crate::slot::language) fn new() -> Self {
        let bytes = (0..=255u8).map(|byte| vec![byte]).chain([b"<|end|>".to_vec()]);
        Letters { bytes: bytes.collect() }
    }
}

impl Vocabulary for Letters {
    fn len(&self) -> usize {
        VOCAB
    }

    fn bytes(&self, token: u32) -> &[u8] {
        &self.bytes[token as usize]
    }

    fn ends(&self) -> &[u32] {
        &[END]
    }

    fn is_control(&self, token: u32) -> bool {
        token == END
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(u32::from).collect()
    }
}

impl Script for Letters {
    fn encode(&self, text: &str, _add_special: bool, parse_special: bool) -> Result<Vec<u32>> {
        if !parse_special {
            return Ok(text.bytes().map(u32::from).collect());
        }
        let mut tokens = Vec::new();
        for (number, part) in text.split("<|end|>").enumerate() {
            tokens.extend((0 < number).then_some(END));
            tokens.extend(part.bytes().map(u32::from));
        }
        Ok(tokens)
    }

    fn bytes(&self, token: u32) -> Vec<u8> {
        self.bytes[token as usize].clone()
    }

    fn decode(&self, tokens: &[u32]) -> Vec<u8> {
        tokens.iter().filter_map(|token| u8::try_from(*token).ok()).collect()
    }

    fn is_control(&self, token: u32) -> bool {
        token == END
    }

    fn control_names(&self) -> Vec<String> {
        vec!["<|end|>".to_owned()]
    }

    fn tokens(&self) -> usize {
        VOCAB
    }

    fn template_source(&self) -> Option<&str> {
        Some("a template with tools, <tool_call>, <think> and enable_thinking")
    }

    fn render(
        &self,
        messages: &Value,
        tools: Option<&Value>,
        _add_generation_prompt: bool,
        _variables: &Map<String, Value>,
    ) -> Result<String> {
        let mut text = tools.map(|tools| format!("tools:{tools}\n")).unwrap_or_default();
        for message in messages.as_array().unwrap() {
            let said = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
            text.push_str(&format!("{}:{}\n", said("role"), said("content")));
        }
        text.push_str("assistant:");
        Ok(text)
    }
}
