//! `bms chat`: a conversation with a language model, in the terminal or through a pipe.

mod here;
mod interrupt;
mod partner;
mod protocol;
mod server;
mod session;

use std::io::{IsTerminal, Read};
use std::path::Path;

use bms_server::{KvCache, LanguageLaunch};
use bms_wire::conversation::{Message, Role};
use bms_wire::{Code, Error, Result, limits};
use clap::Args;

use super::serve::kv_cache;
use crate::api_key::ApiKeyOption;
use crate::home::{Home, PolicyOption};
use crate::model;
use crate::output::Output;
use here::Here;
use partner::{Manner, Partner};
use server::Server;
use session::Session;

/// Where a server is asked when nothing else is named.
const SERVER: &str = "http://127.0.0.1:8080";

/// Options of `bms chat`.
#[derive(Debug, Args)]
pub(crate) struct Chat {
    /// A GGUF file, a folder with `config.json` and safetensors, a bundle, hf://OWNER/NAME, or the address of a server
    /// [default: http://127.0.0.1:8080].
    #[arg(value_name = "MODEL|URL")]
    target: Option<String>,
    /// At a server: which of its models [default: the first it lists].
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    #[command(flatten)]
    key: ApiKeyOption,
    /// What stands above the conversation.
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Answer this and end.
    #[arg(long, value_name = "PROMPT")]
    once: Option<String>,
    #[command(flatten)]
    sampling: SamplingOptions,
    #[command(flatten)]
    policy: PolicyOption,
    /// For a file: threads to compute on [default: all processors].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// For a file: tokens of the conversation [default: what the model was made for].
    #[arg(long, value_name = "TOKENS")]
    context: Option<usize>,
    /// For a file: how keys and values are kept, f16, or q8 in half the memory [default: f16].
    #[arg(long, value_name = "KIND", value_parser = kv_cache)]
    kv_cache: Option<KvCache>,
}

/// How answers are drawn.
#[derive(Debug, Args)]
struct SamplingOptions {
    /// 0 always takes the likeliest word; higher values are more surprising.
    #[arg(long, value_name = "T", default_value_t = 0.7)]
    temperature: f32,
    /// Draw from the likeliest tokens that together have this probability.
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    top_p: f32,
    /// Draw from this many likeliest tokens; 0 from all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Draw from tokens with at least this share of the likeliest one's probability.
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Makes words that were said less likely; 1 changes nothing.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// The same seed gives the same answer.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Tokens of an answer at most [default: what the context leaves].
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// A text that ends an answer; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

impl SamplingOptions {
    fn manner(self) -> Manner {
        Manner {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            max_tokens: self.max_tokens,
            stop: self.stop,
        }
    }
}

impl Chat {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let is_url = |target: &String| target.starts_with("http://") || target.starts_with("https://");
        let partner: Box<dyn Partner> = match self.target {
            Some(path) if !is_url(&path) => {
                if self.model.is_some() {
                    return Err(Error::new(Code::InvalidRequest, "--model is for the models of a server"));
                }
                let policy = self.policy.load(home)?;
                let path = crate::sources::local(Path::new(&path), home, output)?;
                let verified = model::verified(&path, None, &policy, output)?;
                let language = LanguageLaunch {
                    context: self.context,
                    kv_cache: self.kv_cache,
                    ..LanguageLaunch::default()
                };
                Box::new(Here::load(&verified, self.threads, language)?)
            }
            url => {
                if self.threads.is_some() || self.context.is_some() || self.kv_cache.is_some() {
                    let what = "--threads, --context and --kv-cache are for a model that is loaded here";
                    return Err(Error::new(Code::InvalidRequest, what));
                }
                Box::new(Server::new(url.as_deref().unwrap_or(SERVER), self.model, &self.key)?)
            }
        };
        let mut session = Session::new(partner, self.system, self.sampling.manner(), *output)?;
        if let Some(prompt) = self.once {
            return session.answer(&prompt);
        }
        if std::io::stdin().is_terminal() {
            return session.converse();
        }
        session.answer(&piped()?)
    }
}

/// What comes through the pipe, as one message.
fn piped() -> Result<String> {
    let mut text = String::new();
    let limit = limits::INFER_BODY_BYTES_MAX as u64;
    std::io::stdin()
        .lock()
        .take(limit + 1)
        .read_to_string(&mut text)
        .map_err(|e| Error::new(Code::InvalidInput, format!("standard input is no text: {e}")).because(e))?;
    if limit < text.len() as u64 {
        return Err(Error::new(Code::TooLarge, format!("standard input is over {limit} bytes")));
    }
    match text.trim_end() {
        "" => Err(Error::new(Code::InvalidRequest, "standard input is empty")
            .hint("Pipe a message into it, or give one with --once.")),
        text => Ok(text.to_owned()),
    }
}

/// A message of the person.
fn said(text: &str) -> Message {
    Message::new(Role::User, text)
}
