//! Users: streamed completions with the time of every event.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::http;
use super::server::Server;

/// What one user saw.
pub(crate) struct Answer {
    pub(crate) begin: Instant,
    /// When pieces of the answer came.
    pub(crate) events: Vec<Instant>,
    /// Tokens of the answer, as the server counts them.
    pub(crate) tokens: usize,
}

impl Answer {
    /// From the request to the first piece.
    pub(crate) fn first(&self) -> Option<Duration> {
        self.events.first().map(|first| *first - self.begin)
    }
}

/// One greedy completion of exactly `tokens` tokens.
pub(crate) fn ask(address: SocketAddr, model: &str, prompt: &[u32], tokens: usize) -> Result<Answer> {
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let begin = Instant::now();
    let mut answer = Answer { begin, events: Vec::new(), tokens: 0 };
    for line in http::post(address, "/v1/completions", &body)?.lines() {
        let line = line?;
        let now = Instant::now();
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            break;
        }
        let data: Value = serde_json::from_str(data).context("an event of the stream is not JSON")?;
        ensure!(data.get("error").is_none_or(Value::is_null), "the stream failed: {}", data["error"]);
        if let Some(tokens) = data["usage"]["completion_tokens"].as_u64() {
            answer.tokens = tokens as usize;
        }
        if data["choices"][0].is_object() && data["choices"][0]["finish_reason"].is_null() {
            answer.events.push(now);
        }
    }
    ensure!(0 < answer.tokens, "the server did not say how many tokens it made");
    Ok(answer)
}

/// `users` users, each asking the next prompt as soon as the last one is answered.
pub(crate) fn closed_loop(
    server: &Server,
    users: usize,
    prompts: &[Vec<u32>],
    tokens: usize,
) -> Result<Vec<Answer>> {
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..users {
            scope.spawn(|| {
                while let Some(prompt) = prompts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = server.ask(prompt, tokens);
                    answers.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(answer);
                }
            });
        }
    });
    answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().collect()
}

/// Answers that run while others arrive: `prompts` are asked one after another as soon as every one of `running` has
/// begun. Gives back the running answers and when the first and the last prompt were there.
pub(crate) fn disturbed(
    server: &Server,
    running: &[Vec<u32>],
    running_tokens: usize,
    prompts: &[Vec<u32>],
    tokens: usize,
) -> Result<(Vec<Answer>, [Instant; 2])> {
    let begun = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let streams: Vec<_> = running
            .iter()
            .map(|prompt| {
                scope.spawn(|| {
                    // A short answer first: when it is there, the long one is about to run.
                    let warm = server.ask(prompt, 1);
                    begun.fetch_add(1, Ordering::Relaxed);
                    warm.and_then(|_| server.ask(prompt, running_tokens))
                })
            })
            .collect();
        while begun.load(Ordering::Relaxed) < running.len() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let begin = Instant::now();
        for prompt in prompts {
            server.ask(prompt, tokens)?;
            if streams.iter().any(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
        let end = Instant::now();
        let answers = streams
            .into_iter()
            .map(|stream| stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        Ok((answers.collect::<Result<_>>()?, [begin, end]))
    })
}
