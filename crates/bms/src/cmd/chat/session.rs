//! A conversation: its history, its commands, and what is shown of it.

use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

use bms_wire::conversation::{Message, Role};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use super::interrupt::Interrupt;
use super::partner::{Manner, Outcome, Partner, Said};
use super::said;
use crate::output::Output;

const PROMPT: &str = "> ";
const HELP: &str = "\
/help            this
/reset           forget the conversation, keep the system text
/system [TEXT]   show or set what stands above the conversation; setting it begins anew
/save FILE       write the conversation as JSON
/stats           how fast the last answer was
/exit            end (so does Ctrl-D)
Ctrl-C stops an answer. A line that ends with \\ goes on in the next one.";

/// A conversation with somebody.
pub(super) struct Session {
    partner: Box<dyn Partner>,
    manner: Manner,
    history: Vec<Message>,
    interrupt: Interrupt,
    last: Option<Outcome>,
    output: Output,
}

impl Session {
    pub(super) fn new(
        partner: Box<dyn Partner>,
        system: Option<String>,
        manner: Manner,
        output: Output,
    ) -> Result<Self> {
        let interrupt = Interrupt::watch(|| {
            if std::io::stdin().is_terminal() {
                eprint!("\n(/exit or Ctrl-D ends)\n{PROMPT}");
            } else {
                // Nothing is being answered and nobody types: the signal means what it usually does.
                std::process::exit(130);
            }
        })?;
        let history = system.into_iter().map(|text| Message::new(Role::System, text)).collect();
        Ok(Session { partner, manner, history, interrupt, last: None, output })
    }

    /// Talks until the person ends it.
    pub(super) fn converse(&mut self) -> Result<()> {
        eprintln!("Talking to {}. /help shows the commands, Ctrl-D ends.", self.partner.name());
        loop {
            let Some(line) = read_message()? else { return Ok(()) };
            let line = line.trim();
            let result = match line.strip_prefix('/') {
                _ if line.is_empty() => Ok(()),
                Some("exit" | "quit") => return Ok(()),
                Some(command) => self.command(command),
                None => self.answer(line),
            };
            // What failed is said; the conversation goes on.
            if let Err(error) = result {
                self.output.error(&error);
            }
        }
    }

    /// Answers one message.
    pub(super) fn answer(&mut self, text: &str) -> Result<()> {
        self.history.push(said(text));
        let output = self.output;
        let dims = !output.is_json() && std::io::stdout().is_terminal();
        let mut answer = String::new();
        let mut thoughts = String::new();
        self.interrupt.begin();
        let outcome =
            self.partner.answer(&self.history, &self.manner, &self.interrupt.stopped, &mut |piece| {
                match piece {
                    Said::Thought(text) => thoughts.push_str(text),
                    Said::Text(text) => answer.push_str(text),
                }
                show(output, dims, piece);
            });
        self.interrupt.end();
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // The question was not answered, so it is not part of the conversation.
                self.history.pop();
                return Err(error);
            }
        };
        let kept = answer.rsplit("</think>").next().unwrap_or_default().trim().to_owned();
        self.history.push(Message::new(Role::Assistant, kept));
        let result = json!({
            "role": "assistant", "content": answer, "reasoning_content": (!thoughts.is_empty()).then_some(thoughts),
            "model": self.partner.name(), "finish_reason": outcome.finish_reason, "stats": stats(&outcome),
        });
        if self.output.is_json() {
            self.output.result("", &result);
        } else {
            self.output.raw("\n");
            if outcome.finish_reason == "length" {
                eprintln!("(cut off at the limit of tokens)");
            }
        }
        self.last = Some(outcome);
        Ok(())
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("help", _) => eprintln!("{HELP}"),
            ("reset", _) => self.history.retain(|message| message.role == Role::System),
            ("system", "") => match self.history.first().filter(|first| first.role == Role::System) {
                Some(system) => eprintln!("{}", system.content),
                None => eprintln!("(none)"),
            },
            ("system", text) => self.history = vec![Message::new(Role::System, text)],
            ("save", "") => {
                return Err(Error::new(Code::InvalidRequest, "/save needs the name of a file"));
            }
            ("save", file) => self.save(Path::new(file))?,
            ("stats", _) => match &self.last {
                Some(outcome) => eprintln!("{}", line(outcome)),
                None => eprintln!("(nothing was answered yet)"),
            },
            _ => {
                let what = format!("there is no command /{name}");
                return Err(Error::new(Code::InvalidRequest, what).hint("/help shows the commands."));
            }
        }
        Ok(())
    }

    fn save(&self, file: &Path) -> Result<()> {
        let messages: Vec<_> =
            self.history.iter().map(|m| json!({ "role": m.role, "content": m.content })).collect();
        let text =
            serde_json::to_string_pretty(&json!({ "model": self.partner.name(), "messages": messages }))
                .map_err(|e| {
                    Error::new(Code::Internal, "the conversation cannot be written as JSON").because(e)
                })?;
        // A conversation that is there already is not written over.
        let mut created = std::fs::File::create_new(file).map_err(|e| Error::io("create", file, e))?;
        created.write_all(text.as_bytes()).map_err(|e| Error::io("write", file, e))?;
        eprintln!("saved {} messages", self.history.len());
        Ok(())
    }
}

/// Shows a piece of an answer; thoughts are dim, and left out where nobody looks.
fn show(output: Output, dims: bool, piece: Said<'_>) {
    match piece {
        _ if output.is_json() => {
            let (kind, text) = match piece {
                Said::Thought(text) => ("thought", text),
                Said::Text(text) => ("text", text),
            };
            output.event(kind, text, json!({}));
        }
        Said::Thought(text) if dims => output.raw(&format!("\x1b[2m{text}\x1b[0m")),
        Said::Thought(_) => {}
        Said::Text(text) => output.raw(text),
    }
}

/// The next message; `None` at the end of input.
fn read_message() -> Result<Option<String>> {
    let mut message = String::new();
    let mut stdin = std::io::stdin().lock();
    eprint!("{PROMPT}");
    loop {
        let mut line = String::new();
        let read = stdin
            .read_line(&mut line)
            .map_err(|e| Error::new(Code::Io, format!("standard input cannot be read: {e}")).because(e))?;
        if read == 0 {
            return Ok((!message.is_empty()).then_some(message));
        }
        let line = line.trim_end_matches(['\n', '\r']);
        match line.strip_suffix('\\') {
            Some(more) => {
                message.push_str(more);
                message.push('\n');
                eprint!("… ");
            }
            None => {
                message.push_str(line);
                return Ok(Some(message));
            }
        }
    }
}

/// Tokens a second between the first and the last.
fn speed(outcome: &Outcome) -> f64 {
    let seconds = outcome.took.saturating_sub(outcome.first_after.unwrap_or_default()).as_secs_f64();
    let tokens = outcome.completion_tokens.saturating_sub(1) as f64;
    if seconds <= 0.0 { 0.0 } else { tokens / seconds }
}

fn stats(outcome: &Outcome) -> serde_json::Value {
    json!({
        "prompt_tokens": outcome.prompt_tokens,
        "cached_tokens": outcome.cached_tokens,
        "completion_tokens": outcome.completion_tokens,
        "first_token_ms": outcome.first_after.map(|after| (after.as_secs_f64() * 1e3).round()),
        "total_ms": (outcome.took.as_secs_f64() * 1e3).round(),
        "tokens_per_second": (speed(outcome) * 10.0).round() / 10.0,
    })
}

fn line(outcome: &Outcome) -> String {
    format!(
        "{} prompt tokens ({} shared), {} generated; first after {:.2} s, then {:.1} tokens/s",
        outcome.prompt_tokens,
        outcome.cached_tokens,
        outcome.completion_tokens,
        outcome.first_after.unwrap_or_default().as_secs_f64(),
        speed(outcome)
    )
}

#[cfg(test)]
mod tests;
