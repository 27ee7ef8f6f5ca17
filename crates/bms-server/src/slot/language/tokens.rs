//! `POST /tokenize` and `/detokenize`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bms_wire::language::{DetokenizeRequest, Detokenized, TokenizeInput, TokenizeRequest, Tokenized};
use bms_wire::{Code, Error};

use super::step::text_of;
use super::{Language, answered, json, prepared};
use crate::failure::Dialect;

/// A text or a conversation as tokens.
pub(super) async fn tokenize(State(language): State<Arc<Language>>, request: Request) -> Response {
    let tokenized = prepared(language, request, |language, body| {
        let request = TokenizeRequest::parse(body)?;
        language.adapter(request.model.as_deref())?;
        let tokens = match request.input {
            TokenizeInput::Text { text, add_special, parse_special } => {
                language.script.encode(&text, add_special, parse_special)?
            }
            TokenizeInput::Conversation(conversation) => language.prompt(&conversation, None)?.tokens,
        };
        let text = |token: &u32| text_of(&language.script.bytes(*token));
        Ok(Tokenized {
            count: tokens.len(),
            max_model_len: language.engine.context(),
            token_strs: request.with_texts.then(|| tokens.iter().map(text).collect()),
            tokens,
        })
    });
    answered(Dialect::OpenAi, tokenized.await.and_then(|tokenized| json(&tokenized)))
}

/// Tokens as a text.
pub(super) async fn detokenize(State(language): State<Arc<Language>>, request: Request) -> Response {
    let detokenized = prepared(language, request, |language, body| {
        let request = DetokenizeRequest::parse(body)?;
        language.adapter(request.model.as_deref())?;
        let known = language.script.tokens();
        if let Some(token) = request.tokens.iter().find(|token| known <= **token as usize) {
            let what = format!("the model has no token {token}, only {known}");
            return Err(Error::new(Code::InvalidInput, what).about("tokens"));
        }
        let text = text_of(&language.script.decode(&request.tokens));
        Ok(Detokenized { prompt: text.clone(), content: text })
    });
    answered(Dialect::OpenAi, detokenized.await.and_then(|text| json(&text)))
}
