//! What is asked.

use std::fs;
use std::path::Path;

use bms_wire::oip::{Datatype, ModelMetadata, TensorMetadata};
use bms_wire::{Code, Error, Result, limits};
use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::{Protocol, Serve, tensors};

/// Different made-up requests for tensors; their making is not part of the measurement.
const TENSOR_BODIES: usize = 64;
/// Words of made-up prompts. Common ones are one token in most vocabularies.
const WORDS: [&str; 32] = [
    "time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school",
    "state", "family", "student", "group", "country", "problem", "hand", "part", "place", "case", "week",
    "company", "system", "program", "question", "work", "night", "point", "home", "water",
];

/// What is sent once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) body: Bytes,
    /// Bytes of it that are JSON, when tensors follow behind them.
    pub(super) head_bytes: Option<usize>,
}

/// Bodies of requests, without end.
#[derive(Debug)]
pub(super) struct Work {
    path: String,
    bodies: Bodies,
}

#[derive(Debug)]
enum Bodies {
    /// Taken in turns.
    Given { asks: Vec<Ask>, next: usize },
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
            Protocol::Infer | Protocol::Binary => format!("/v2/models/{}/infer", segment(&options.model)),
            Protocol::Grpc => "/inference.GRPCInferenceService/ModelInfer".to_owned(),
            Protocol::Chat => "/v1/chat/completions".to_owned(),
            Protocol::Completions => "/v1/completions".to_owned(),
            Protocol::Embeddings => "/v1/embeddings".to_owned(),
        };
        let mut chance = Box::new(ChaCha8Rng::seed_from_u64(options.seed));
        let bodies = match (&options.bodies, options.protocol) {
            (Some(file), protocol) => {
                let asks = read(file)?.into_iter().map(|body| given(protocol, &options.model, body));
                Bodies::Given { asks: asks.collect::<Result<_>>()?, next: 0 }
            }
            (None, Protocol::Infer | Protocol::Binary | Protocol::Grpc) => {
                let bodies = made_up(options, &mut chance)?.into_iter();
                let asks = bodies.map(|body| ask(options.protocol, &options.model, &body));
                Bodies::Given { asks: asks.collect::<Result<_>>()?, next: 0 }
            }
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

    /// The requests, when they are given and taken in turns.
    pub(super) fn given(&self) -> &[Ask] {
        match &self.bodies {
            Bodies::Given { asks, .. } => asks,
            Bodies::Prompts { .. } => &[],
        }
    }

    /// The next request.
    pub(super) fn next(&mut self) -> Ask {
        match &mut self.bodies {
            Bodies::Given { asks, next } => {
                *next = (*next + 1) % asks.len();
                asks[*next].clone()
            }
            Bodies::Prompts { protocol, model, shared, words: count, max_tokens, chance } => {
                let prompt = format!("{shared}{}", words(*count, chance));
                Ask {
                    body: body(*protocol, model, &prompt, *max_tokens).to_string().into(),
                    head_bytes: None,
                }
            }
        }
    }
}

/// A body of somebody's own: as it is where JSON is sent.
fn given(protocol: Protocol, model: &str, body: Bytes) -> Result<Ask> {
    match protocol {
        Protocol::Binary | Protocol::Grpc => {
            let request = serde_json::from_slice(&body)
                .map_err(|e| Error::new(Code::InvalidRequest, "a body is not JSON").because(e))?;
            ask(protocol, model, &request)
        }
        _ => Ok(Ask { body, head_bytes: None }),
    }
}

/// A request for tensors in the form of a protocol.
fn ask(protocol: Protocol, model: &str, request: &Value) -> Result<Ask> {
    match protocol {
        Protocol::Binary => tensors::binary(request),
        Protocol::Grpc => tensors::grpc(model, request),
        _ => Ok(Ask { body: request.to_string().into(), head_bytes: None }),
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
fn made_up(options: &Serve, chance: &mut ChaCha8Rng) -> Result<Vec<Value>> {
    let metadata = metadata(options)?;
    let body = |_| {
        let inputs = metadata.inputs.iter().map(|input| tensor(input, options.rows, chance));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        Ok(json!({"inputs": inputs}))
    };
    (0..TENSOR_BODIES).map(body).collect()
}

/// What the first server that answers says of the model.
fn metadata(options: &Serve) -> Result<ModelMetadata> {
    let (first, others) = options.server.split_first().ok_or_else(|| {
        Error::new(Code::InvalidRequest, "no server is named").hint("Name one with --server URL.")
    })?;
    let ask = |server: &String| options.key.client(server)?.metadata(&options.model);
    others.iter().fold(ask(first), |told, server| told.or_else(|_| ask(server)))
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
