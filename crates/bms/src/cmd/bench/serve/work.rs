//! What is asked.

use std::fs;
use std::path::Path;

use bms_wire::client::{Client, ServerKey};
use bms_wire::oip::{Datatype, TensorMetadata};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Protocol, Serve};

/// Different made-up requests for tensors; their making is not part of the measurement.
const TENSOR_BODIES: usize = 64;
/// Words of made-up prompts. Common ones are one token in most vocabularies.
const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "night", "point", "home", "water",
];

/// Bodies of requests, without end.
#[derive(Debug)]
pub(super) struct Work {
    path: String,
    bodies: Bodies,
}

#[derive(Debug)]
enum Bodies {
    /// Taken in turns.
    Given { bodies: Vec<Bytes>, next: usize },
    /// Made up, each another one.
    Prompts {
        protocol: Protocol,
        model: String,
        shared: String,
        words: usize,
        max_tokens: u32,
        chance: Box<ChaCha8Rng>,
    },
}

impl Work {
    /// # Errors
    /// [`Code::InvalidRequest`] for a file without bodies, [`Code::InvalidInput`] for a model whose input cannot be made
    /// up, and failures to ask the server what the model takes.
    pub(super) fn new(options: &Serve) -> Result<Work> {
        let path = match options.protocol {
            Protocol::Infer => format!("/v2/models/{}/infer", segment(&options.model)),
            Protocol::Chat => "/v1/chat/completions".to_owned(),
            Protocol::Completions => "/v1/completions".to_owned(),
            Protocol::Embeddings => "/v1/embeddings".to_owned(),
        };
        let mut chance = Box::new(ChaCha8Rng::seed_from_u64(options.seed));
        let bodies = match (&options.bodies, options.protocol) {
            (Some(file), _) => Bodies::Given { bodies: read(file)?, next: 0 },
            (None, Protocol::Infer) => Bodies::Given { bodies: tensors(options, &mut chance)?, next: 0 },
            (None, protocol) => {
                let shared = words(options.shared_words.min(options.prompt_words) as usize, &mut chance);
                let words = options.prompt_words.saturating_sub(options.shared_words) as usize;
                let (model, max_tokens) = (options.model.clone(), options.max_tokens);
                Bodies::Prompts { protocol, model, shared, words, max_tokens, chance }
            }
        };
        Ok(Work { path, bodies })
    }

    /// Where requests go.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The next body.
    pub(super) fn next(&mut self) -> Bytes {
        match &mut self.bodies {
            Bodies::Given { bodies, next } => {
                *next = (*next + 1) % bodies.len();
                bodies[*next].clone()
            }
            Bodies::Prompts { protocol, model, shared, words: count, max_tokens, chance } => {
                let prompt = format!("{shared}{}", words(*count, chance));
                Bytes::from(body(*protocol, model, &prompt, *max_tokens).to_string())
            }
        }
    }
}

fn body(protocol: Protocol, model: &str, prompt: &str, max_tokens: u32) -> Value {
    let mut body = match protocol {
        Protocol::Embeddings => return json!({"model": model, "input": prompt}),
        Protocol::Chat => json!({"messages": [{"role": "user", "content": prompt}]}),
        _ => json!({"prompt": prompt}),
    };
    body["model"] = json!(model);
    body["max_tokens"] = json!(max_tokens);
    body["temperature"] = json!(0);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

fn words(count: usize, chance: &mut ChaCha8Rng) -> String {
    (0..count).flat_map(|_| [WORDS[chance.random_range(0..WORDS.len())], " "]).collect()
}

/// One body a line.
fn read(file: &Path) -> Result<Vec<Bytes>> {
    let text = fs::read_to_string(file).map_err(|e| Error::io("read", file, e))?;
    let mut bodies = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        serde_json::from_str::<serde::de::IgnoredAny>(line).map_err(|e| {
            let what = format!("line {} of `{}` is not JSON: {e}", number + 1, file.display());
            Error::new(Code::InvalidRequest, what).because(e)
        })?;
        bodies.push(Bytes::from(line.to_owned()));
    }
    match bodies.is_empty() {
        false => Ok(bodies),
        true => Err(Error::new(Code::InvalidRequest, format!("`{}` holds no bodies", file.display()))
            .hint("Write the JSON of one request a line.")),
    }
}

/// Requests with random values for the tensors that the server says the model takes.
fn tensors(options: &Serve, chance: &mut ChaCha8Rng) -> Result<Vec<Bytes>> {
    let key = options.key_file.as_deref().map(super::key).transpose()?;
    let key = key.map(|key| ServerKey::new(&key)).transpose()?;
    let metadata = Client::new(&options.server)?.with_key(key).metadata(&options.model)?;
    let body = |_| {
        let inputs = metadata.inputs.iter().map(|input| tensor(input, options.rows, chance));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        Ok(Bytes::from(json!({"inputs": inputs}).to_string()))
    };
    (0..TENSOR_BODIES).map(body).collect()
}

fn tensor(input: &TensorMetadata, rows: u16, chance: &mut ChaCha8Rng) -> Result<Value> {
    // The first free length counts rows, others are as short as they can be.
    let lengths = input.shape.iter().enumerate().map(|(axis, length)| match (axis, *length) {
        (0, -1) => i64::from(rows),
        (_, -1) => 1,
        (_, length) => length,
    });
    let shape: Vec<i64> = lengths.collect();
    let count = shape.iter().try_fold(1i64, |count, length| count.checked_mul(*length));
    let count =
        count.filter(|count| (0..=limits::TENSOR_VALUES_MAX as i64).contains(count)).ok_or_else(|| {
            Error::new(Code::TooLarge, format!("input `{}` with {rows} rows has too many values", input.name))
        })?;
    let data: Vec<Value> = (0..count)
        .map(|_| match input.datatype {
            Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64 => Ok(json!(chance.random::<f32>())),
            Datatype::Bool => Ok(json!(chance.random::<bool>())),
            Datatype::Bytes => Err(Error::new(
                Code::InvalidInput,
                format!("input `{}` takes bytes, which cannot be made up", input.name),
            )
            .hint("Give requests with --bodies FILE.")),
            // Small enough for indices of anything.
            _ => Ok(json!(chance.random_range(0..2))),
        })
        .collect::<Result<_>>()?;
    Ok(json!({"name": input.name, "shape": shape, "datatype": input.datatype, "data": data}))
}

/// A name as one segment of a path.
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
