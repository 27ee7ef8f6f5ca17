//! The bodies of requests to language models, in the dialects of their clients.

#![no_main]

use bms_wire::anthropic::MessagesRequest;
use bms_wire::language::{DetokenizeRequest, LoadAdapter, TokenizeRequest, UnloadAdapter};
use bms_wire::openai::responses::ResponsesRequest;
use bms_wire::openai::{ChatRequest, CompletionRequest, EmbeddingRequest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    drop(ChatRequest::parse(data));
    drop(CompletionRequest::parse(data));
    drop(EmbeddingRequest::parse(data));
    drop(ResponsesRequest::parse(data));
    drop(MessagesRequest::parse(data));
    drop(MessagesRequest::parse_for_count(data));
    drop(TokenizeRequest::parse(data));
    drop(DetokenizeRequest::parse(data));
    drop(LoadAdapter::parse(data));
    drop(UnloadAdapter::parse(data));
});
