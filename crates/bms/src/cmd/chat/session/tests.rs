use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bms_wire::conversation::{Message, Role};
use bms_wire::{Code, Error, Result};

use super::{Session, speed};
use crate::cmd::chat::partner::{Manner, Outcome, Partner, Said};
use crate::output::Output;

/// Says how many messages it was given.
struct Counter;

impl Partner for Counter {
    fn name(&self) -> &str {
        "counter"
    }

    fn answer(
        &mut self,
        messages: &[Message],
        _manner: &Manner,
        _stopped: &AtomicBool,
        say: &mut dyn FnMut(Said<'_>),
    ) -> Result<Outcome> {
        if messages.last().is_some_and(|message| message.content == "fail") {
            return Err(Error::new(Code::Unavailable, "failed as asked"));
        }
        say(Said::Text("<think>hm</think> "));
        say(Said::Text(&messages.len().to_string()));
        Ok(Outcome { finish_reason: "stop".into(), ..Outcome::default() })
    }
}

fn session() -> Session {
    let manner = Manner {
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
        seed: None,
        max_tokens: None,
        stop: Vec::new(),
    };
    Session::new(Box::new(Counter), Some("be brief".into()), manner, Output::new(true)).unwrap()
}

#[test]
fn turns_are_kept_without_thoughts_and_failed_ones_are_not() {
    let mut session = session();
    session.answer("a").unwrap();
    session.answer("b").unwrap();
    assert!(session.answer("fail").is_err());
    let said: Vec<&str> = session.history.iter().map(|message| message.content.as_str()).collect();
    assert_eq!(said, ["be brief", "a", "2", "b", "4"]);
    session.command("reset").unwrap();
    assert_eq!(session.history.len(), 1);
    session.command("system be long").unwrap();
    assert_eq!(session.history, [Message::new(Role::System, "be long")]);
}

#[test]
fn a_conversation_is_saved_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("chat.json");
    let mut session = session();
    session.answer("a").unwrap();
    let save = format!("save {}", file.display());
    session.command(&save).unwrap();
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved["messages"].as_array().unwrap().len(), 3);
    assert!(session.command(&save).is_err(), "an earlier conversation was written over");
    assert_eq!(session.command("nonsense").unwrap_err().code(), Code::InvalidRequest);
}

#[test]
fn speed_leaves_the_first_token_out() {
    let outcome = Outcome {
        completion_tokens: 11,
        first_after: Some(Duration::from_secs(1)),
        took: Duration::from_secs(3),
        ..Outcome::default()
    };
    assert!((speed(&outcome) - 5.0).abs() < 1e-9);
}
