//! `POST /v1/embeddings`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bms_wire::openai::{
    Embedding, EmbeddingEncoding, EmbeddingRequest, EmbeddingVector, Embeddings, Prompt, Usage,
};
use bms_wire::{Code, Error, Result};

use super::{Language, answered, json, prepared};
use crate::failure::Dialect;

/// Tokens that are embedded at once, unless one input alone has more.
pub(in crate::slot) const GROUP_TOKENS: usize = 16 << 10;

/// Turns texts into vectors.
pub(super) async fn answer(State(language): State<Arc<Language>>, request: Request) -> Response {
    let embedded = prepared(language, request, |language, body| {
        let request = EmbeddingRequest::parse(body)?;
        if language.adapter(request.model.as_deref())?.is_some() {
            return Err(
                Error::new(Code::InvalidRequest, "embeddings are made without adapters").about("model")
            );
        }
        language.embeddings(request)
    });
    answered(Dialect::OpenAi, embedded.await.and_then(|embeddings| json(&embeddings)))
}

impl Language {
    fn embeddings(&self, request: EmbeddingRequest) -> Result<Embeddings> {
        let inputs = request.inputs.into_iter().map(|input| match input {
            Prompt::Tokens(tokens) => Ok(tokens),
            Prompt::Text(text) => self.script.encode(&text, true, false),
        });
        let inputs = inputs.collect::<Result<Vec<Vec<u32>>>>()?;
        let tokens = inputs.iter().map(Vec::len).sum();
        let mut vectors = Vec::with_capacity(inputs.len());
        for group in groups(inputs) {
            vectors.extend(self.engine.embed(group).map_err(|error| error.about("input"))?);
        }
        let mut data = Vec::with_capacity(vectors.len());
        for (index, vector) in vectors.into_iter().enumerate() {
            let vector = shortened(vector, request.dimensions)?;
            let embedding = match request.encoding {
                EmbeddingEncoding::Float => EmbeddingVector::Float(vector),
                EmbeddingEncoding::Base64 => EmbeddingVector::Base64(base64_of(&vector)),
            };
            data.push(Embedding { object: "embedding".to_owned(), index, embedding });
        }
        Ok(Embeddings {
            object: "list".to_owned(),
            data,
            model: request.model.unwrap_or_else(|| self.name.clone()),
            usage: Usage {
                prompt_tokens: tokens,
                completion_tokens: 0,
                total_tokens: tokens,
                prompt_tokens_details: None,
            },
        })
    }
}

/// The inputs in groups that are not too much for one step of the engine, in their order.
fn groups(inputs: Vec<Vec<u32>>) -> Vec<Vec<Vec<u32>>> {
    let mut groups = Vec::new();
    let (mut group, mut tokens) = (Vec::new(), 0);
    for input in inputs {
        if !group.is_empty() && GROUP_TOKENS < tokens + input.len() {
            groups.push(std::mem::take(&mut group));
            tokens = 0;
        }
        tokens += input.len();
        group.push(input);
    }
    groups.push(group);
    groups
}

/// The leading dimensions, of length one again.
fn shortened(mut vector: Vec<f32>, dimensions: Option<usize>) -> Result<Vec<f32>> {
    let Some(dimensions) = dimensions else { return Ok(vector) };
    if vector.len() < dimensions {
        let what = format!("`dimensions` is {dimensions}, this model's vectors have {}", vector.len());
        return Err(Error::new(Code::InvalidRequest, what).about("dimensions"));
    }
    vector.truncate(dimensions);
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if 0.0 < length {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    Ok(vector)
}

fn base64_of(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    STANDARD.encode(bytes)
}
