//! Streams of a language model, whose whole text is known from before the trouble began.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::scene::{LANGUAGE, Scene};
use super::{Course, RETRIES};
use crate::bench::http;

/// Clients that read a stream at a time.
const CLIENTS: usize = 3;
/// Different prompts.
const PROMPTS: usize = 6;
/// Tokens of an answer: enough that a slot dies in the middle of many.
const TOKENS: usize = 600;
/// How long a stream may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Between two streams of a client: others need the processors, too.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Streams {
    /// What each prompt's answer is without trouble.
    whole: Vec<String>,
    seen: Mutex<Seen>,
}

/// What the clients saw.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Streams that came whole and said what they do without trouble.
    pub(crate) same: u64,
    /// Streams whose text was another.
    pub(crate) other: u64,
    /// Requests sent again before a piece had come.
    pub(crate) moved: u64,
    /// Streams whose replica was killed under them: their client had to ask once more, and did.
    pub(crate) ended_with_their_replica: u64,
    /// Streams that broke off although their replica lived, or were never answered, with the reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Of each second, the longest time without a piece of a stream, in seconds.
    pub(crate) longest_silence: Vec<f64>,
}

/// How a stream ended that did not come whole.
enum Ended {
    /// Nothing had come yet.
    Before(String),
    /// A part had come.
    Within(String),
}

impl Streams {
    /// Asks for every answer once, in peace, from both replicas.
    pub(crate) fn prepare(scene: &Scene) -> Result<Streams> {
        let mut whole = Vec::new();
        for prompt in 0..PROMPTS {
            let texts = scene.replicas.iter().map(|replica| match ask(replica.address, prompt, |_| {}) {
                Ok(text) => Ok(text),
                Err(Ended::Before(why) | Ended::Within(why)) => Err(anyhow::anyhow!(why)),
            });
            let texts =
                texts.collect::<Result<Vec<_>>>().context("a stream failed before there was trouble")?;
            ensure!(texts.windows(2).all(|pair| pair[0] == pair[1]), "the replicas' answers differ");
            whole.extend(texts.into_iter().next());
        }
        Ok(Streams { whole, seen: Mutex::default() })
    }

    /// Starts the clients.
    pub(crate) fn spawn<'s>(&'s self, scope: &'s Scope<'s, '_>, scene: &'s Scene, course: &'s Course) {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut number = client;
                while !course.is_over() {
                    self.one(scene, course, number);
                    number += CLIENTS;
                    std::thread::sleep(PAUSE);
                }
            });
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One answer, from whichever replica gives it.
    fn one(&self, scene: &Scene, course: &Course, number: usize) {
        let (prompt, mut at) = (number % PROMPTS, number);
        let mut sent = 0;
        loop {
            let (begin, replica) = (Instant::now(), scene.replica(at));
            let mut last = Instant::now();
            let asked = ask(replica.address, prompt, |now| {
                self.silence(course, now - last);
                last = now;
            });
            sent += 1;
            let why = match asked {
                Ok(text) => {
                    let same = text == self.whole[prompt];
                    let mut seen = self.lock();
                    seen.same += u64::from(same);
                    seen.other += u64::from(!same);
                    return;
                }
                Err(Ended::Before(why)) if RETRIES < sent => why,
                Err(Ended::Before(_)) => {
                    self.lock().moved += 1;
                    at += 1;
                    if sent.is_multiple_of(2) {
                        std::thread::sleep(PAUSE);
                    }
                    continue;
                }
                Err(Ended::Within(_)) if replica.was_killed_since(begin) => {
                    self.lock().ended_with_their_replica += 1;
                    (at, sent) = (at + 1, 0);
                    continue;
                }
                Err(Ended::Within(why)) => why,
            };
            // A moment that is told with the reason: when it happened is half of what it was.
            eprintln!("a stream failed after {:.1} s at {}: {why}", course.at(), replica.name);
            *self.lock().failed.entry(why).or_default() += 1;
            return;
        }
    }

    fn silence(&self, course: &Course, length: Duration) {
        let second = course.begin.elapsed().as_secs() as usize;
        let mut seen = self.lock();
        if seen.longest_silence.len() <= second {
            seen.longest_silence.resize(second + 1, 0.0);
        }
        let longest = &mut seen.longest_silence[second];
        *longest = longest.max(length.as_secs_f64());
    }
}

/// The text of one stream. `each` is told when pieces come.
fn ask(address: SocketAddr, prompt: usize, mut each: impl FnMut(Instant)) -> Result<String, Ended> {
    let body = json!({
        "model": LANGUAGE, "messages": [{ "role": "user", "content": format!("Tell me of the number {prompt}.") }],
        "temperature": 0, "ignore_eos": true, "max_tokens": TOKENS, "stream": true,
    });
    let mut text = String::new();
    let ended = |text: &str, why: String| match text.is_empty() {
        true => Ended::Before(why),
        false => Ended::Within(why),
    };
    let answer = http::post_within(address, "/v1/chat/completions", &body, SILENCE_MAX);
    for line in answer.map_err(|error| Ended::Before(format!("{error:#}")))?.lines() {
        let line = line.map_err(|error| ended(&text, format!("it broke off: {error}")))?;
        let Some(data) = line.strip_prefix("data:").map(str::trim) else { continue };
        if data == "[DONE]" {
            return Ok(text);
        }
        let event: Value = serde_json::from_str(data).map_err(|error| ended(&text, error.to_string()))?;
        if let Some(error) = event.get("error") {
            return Err(ended(&text, format!("an error event: {error}")));
        }
        let piece = event.pointer("/choices/0/delta/content").and_then(Value::as_str).unwrap_or_default();
        if !piece.is_empty() {
            text.push_str(piece);
            each(Instant::now());
        }
    }
    Err(ended(&text, "it ended without its end".to_owned()))
}
