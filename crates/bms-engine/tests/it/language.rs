//! SmolLM2 behind the language-model engine. `BMS_SMOLLM2` names the GGUF file.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bms_engine::lm::{Constraint, Event, FinishReason, LanguageEngine, LanguageOptions, Request, Sampling};
use bms_kernels::{Isa, KvKind};
use bms_nn::lm::gguf::GgufFile;
use bms_nn::lm::{LoadOptions, ModelFiles, Network, Tokenizer, load};

/// The engine and its tokeniser; `None` where the model is not there.
fn smollm2(change: impl FnOnce(&mut LanguageOptions)) -> Option<(LanguageEngine, Arc<Tokenizer>)> {
    let Some(path) = std::env::var_os("BMS_SMOLLM2") else {
        let in_ci = std::env::var_os("CI").is_some();
        assert!(!in_ci, "BMS_SMOLLM2 must be set in CI; `cargo xtask fixtures` gets the model");
        eprintln!("SKIPPED: SmolLM2 was not run, because BMS_SMOLLM2 is not set");
        return None;
    };
    let bytes = std::fs::read(path).unwrap();
    let words = Arc::new(Tokenizer::from_gguf(&GgufFile::parse(&bytes).unwrap().metadata).unwrap());
    let mut options = LanguageOptions { threads: 2, ..LanguageOptions::default() };
    change(&mut options);
    let load_options = LoadOptions {
        threads: options.threads,
        isa: Isa::best(),
        kv: KvKind::F16,
        context: Some(2048),
        kv_bytes: 256 << 20,
        quantise: None,
        release: &|_| (),
    };
    let Network::Decoder(decoder) = load(&ModelFiles::Gguf(&bytes), &load_options).unwrap() else {
        panic!("it continues texts")
    };
    Some((LanguageEngine::start(decoder, words.clone(), &options).unwrap(), words))
}

fn question(words: &Tokenizer, text: &str, tokens: usize) -> Request {
    let text = format!("<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n");
    let prompt = words.encode(&text, false, true).unwrap();
    Request { max_tokens: Some(tokens), ..Request::new(prompt) }
}

#[test]
fn it_answers_streams_and_finds_prefixes_again() {
    let Some((engine, words)) = smollm2(|_| ()) else { return };
    let ask = question(&words, "What is the capital of France?", 24);
    let first = engine.complete(ask.clone()).unwrap().remove(0);
    assert!(first.text.contains("Paris"), "{}", first.text);
    assert_eq!(first.usage.cached_tokens, 0);
    let second = engine.complete(Request { logprobs: Some(3), ..ask }).unwrap().remove(0);
    assert_eq!(first.text, second.text);
    assert!(0 < second.usage.cached_tokens);
    for token in &second.tokens {
        assert_eq!(token.top[0].0, token.id, "greedy takes the most probable");
        assert!(token.logprob.unwrap() <= 0.0);
    }
    let whole: Vec<u8> =
        second.tokens.iter().filter(|t| !words.is_end(t.id)).flat_map(|t| t.bytes.clone()).collect();
    assert_eq!(second.text.as_bytes(), whole);
}

#[test]
fn answers_have_the_form_that_is_asked_for() {
    let Some((engine, words)) = smollm2(|_| ()) else { return };
    let schema = serde_json::json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 40},
            "country": {"enum": ["France", "Spain", "Italy"]},
            "inhabitants": {"type": "integer", "minimum": 0, "maximum": 100_000_000},
        },
        "required": ["city", "country", "inhabitants"],
        "additionalProperties": false,
    });
    for temperature in [0.0, 1.0] {
        let ask = Request {
            constraint: Some(Constraint::JsonSchema(schema.clone())),
            sampling: Sampling { temperature, seed: Some(7), ..Sampling::default() },
            n: 2,
            ..question(&words, "Describe Paris as JSON.", 150)
        };
        for answer in engine.complete(ask).unwrap() {
            assert_eq!(answer.reason, FinishReason::Stop, "{}", answer.text);
            let value: serde_json::Value = serde_json::from_str(&answer.text).unwrap();
            assert!(["France", "Spain", "Italy"].contains(&value["country"].as_str().unwrap()));
        }
    }
    let choice = Some(Constraint::Choice(vec!["yes".into(), "no".into()]));
    let answer =
        engine.complete(Request { constraint: choice, ..question(&words, "Is water wet?", 8) }).unwrap();
    assert!(["yes", "no"].contains(&answer[0].text.as_str()));
}

#[test]
fn drafts_change_no_answer_and_save_steps() {
    let text = "Repeat after me, exactly: one two three four five six seven eight nine ten, one two three four five six.";
    let mut answers = Vec::new();
    for speculate in [false, true] {
        let Some((engine, words)) = smollm2(|o| o.speculate = speculate) else { return };
        let answer = engine.complete(question(&words, text, 80)).unwrap().remove(0);
        answers.push((answer.text, engine.metrics()));
    }
    assert_eq!(answers[0].0, answers[1].0);
    eprintln!("{} steps without drafts, {} with", answers[0].1.steps, answers[1].1.steps);
    assert!(answers[1].1.steps <= answers[0].1.steps);
}

#[test]
fn sixteen_users_share_a_prefix_and_arriving_prompts_stall_nobody() {
    let Some((engine, words)) = smollm2(|_| ()) else { return };
    let common = "The history of computing is long. ".repeat(60);
    let begin = Instant::now();
    let (sender, events) = std::sync::mpsc::channel();
    let mut tickets = Vec::new();
    let mut sent = 0;
    for user in 0..16 {
        let ask = question(&words, &format!("{common}User {user} asks: what came first?"), 32);
        sent += ask.prompt.len();
        let sender = sender.clone();
        let mut last: Option<Instant> = None;
        tickets.push(engine.generate(Request { ignore_eos: true, ..ask }, move |event| {
            let gap = match event {
                Event::Tokens { .. } => Some(last.replace(Instant::now()).map(|last| last.elapsed())),
                _ => None,
            };
            sender.send(gap).is_ok()
        }));
    }
    drop(sender);
    let gaps: Vec<Duration> = events.iter().flatten().flatten().collect();
    let metrics = engine.metrics();
    let computed = metrics.prompt_tokens - metrics.prefix_hit_tokens;
    eprintln!(
        "{} of {sent} prompt tokens computed, {:.1} answer tokens a second, ttft p50 {:.2} s, longest gap {:.0} ms",
        computed,
        metrics.generated_tokens as f64 / begin.elapsed().as_secs_f64(),
        metrics.ttft.quantile(0.5),
        gaps.iter().max().unwrap().as_secs_f64() * 1e3,
    );
    assert!(tickets.into_iter().all(|ticket| ticket.is_ok()));
    assert_eq!(metrics.generated_tokens, 16 * 32);
    assert!((computed as usize) < sent / 4, "{computed} of {sent} were computed");
}
