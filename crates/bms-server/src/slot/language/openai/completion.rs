//! `POST /v1/completions`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bms_wire::generation::Generation;
use bms_wire::openai::{
    Completion, CompletionChoice, CompletionLogprobs, CompletionRequest, ErrorEnvelope, Prompt, Usage,
};
use bms_wire::{Error, Result};
use serde_json::{Map, json};

use super::finish_reason;
use crate::failure::Dialect;
use crate::slot::language::assembly::{Assembly, End, collect, total};
use crate::slot::language::job::Question;
use crate::slot::language::marks::{self, Marks, Name};
use crate::slot::language::prompt::constraint;
use crate::slot::language::reader::{Opening, Piece, Reading};
use crate::slot::language::step::{News, Scored, Step, Steps, text_of};
use crate::slot::language::stream::{Events, Writer, respond};
use crate::slot::language::{Language, answered, json as json_answer};

/// Text is text: nothing in it is taken for a thought or a call.
const READING: Reading = Reading { calls: None, thinks: false, opening: Opening::None };

/// Continues texts.
pub(in crate::slot::language) async fn answer(
    State(language): State<Arc<Language>>,
    request: Request,
) -> Response {
    answered(Dialect::OpenAi, complete(language, request).await)
}

async fn complete(language: Arc<Language>, request: Request) -> Result<Response> {
    let begun = marks::prepared(language.clone(), request, |language, body, asked| {
        let request = CompletionRequest::parse(body)?;
        let generation = request.generation;
        let constraint = generation.constraint.as_ref().map(constraint);
        let question = |prompt| {
            let tokens = match prompt {
                Prompt::Tokens(tokens) => tokens,
                Prompt::Text(text) => language.script.encode(&text, request.add_special_tokens, true)?,
            };
            Ok(Question { tokens, constraint: constraint.clone(), echo: request.echo })
        };
        let questions: Vec<Question> = request.prompts.into_iter().map(question).collect::<Result<_>>()?;
        let steps = Steps::new(questions.len(), generation.n, generation.logprobs.is_some(), READING, &[]);
        let name = asked.name(language, "cmpl-");
        // An answer that begins with its prompt would have to tell that again as well.
        let asked = if request.echo { asked.without_marks() } else { asked };
        let mut marks = asked.marks(&name, &generation, steps.answers())?;
        let origin = marks.as_mut().map(Marks::origin).unwrap_or_default();
        let job = language.submit(questions, &generation, origin)?;
        Ok((job, steps, generation, name, marks))
    });
    let (job, steps, generation, name, marks) = begun.await?;
    let mut writer = CompletionWriter::new(&language, steps.answers(), &generation, name);
    if generation.stream {
        return Ok(respond(language, job, steps, writer, marks));
    }
    let answers = collect(&language, job, steps).await?;
    let mut choices = Vec::with_capacity(answers.len());
    for (index, answer) in answers.into_iter().enumerate() {
        choices.push(writer.whole(index, answer));
    }
    let usage = writer.usage();
    json_answer(&writer.completion(choices, Some(usage)))
}

/// Writes completions, streamed or whole.
#[derive(Debug)]
struct CompletionWriter {
    id: String,
    created: u64,
    model: String,
    n: usize,
    wants_scores: bool,
    include_usage: bool,
    answers: Vec<Written>,
}

/// What has been written of one answer.
#[derive(Clone, Debug, Default)]
struct Written {
    /// Characters of the text so far.
    offset: usize,
    /// Log probabilities whose text is still to come.
    logprobs: CompletionLogprobs,
    end: Option<End>,
}

impl Written {
    fn score(&mut self, scores: &[Scored]) {
        for score in scores {
            let text = text_of(&score.bytes);
            let characters = text.chars().count();
            self.logprobs.tokens.push(text);
            self.logprobs.token_logprobs.push(score.logprob);
            let tops: Map<_, _> =
                score.top.iter().map(|(bytes, logprob)| (text_of(bytes), json!(logprob))).collect();
            self.logprobs.top_logprobs.push(score.logprob.map(|_| tops));
            self.logprobs.text_offset.push(self.offset);
            self.offset += characters;
        }
    }
}

impl CompletionWriter {
    fn new(language: &Language, answers: usize, generation: &Generation, name: Name) -> Self {
        CompletionWriter {
            id: name.id,
            created: name.created,
            model: generation.model.clone().unwrap_or_else(|| language.name.clone()),
            n: generation.n,
            wants_scores: generation.logprobs.is_some(),
            include_usage: generation.include_usage,
            answers: vec![Written::default(); answers],
        }
    }

    fn completion(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices,
            usage,
        }
    }

    fn usage(&self) -> Usage {
        let ends = self.answers.iter().enumerate();
        total(ends.filter_map(|(index, answer)| Some((index, answer.end.as_ref()?))), self.n).into()
    }

    /// A whole answer.
    fn whole(&mut self, index: usize, answer: Assembly) -> CompletionChoice {
        let mut text = String::new();
        if let Some((prompt, scores)) = answer.prompt {
            text.push_str(&prompt);
            self.score(index, &scores);
        }
        text.push_str(&answer.text);
        self.score(index, &answer.scores);
        self.answers[index].end = answer.end;
        let end = self.answers[index].end.clone();
        self.choice(index, text, end.as_ref())
    }

    fn score(&mut self, index: usize, scores: &[Scored]) {
        if self.wants_scores {
            self.answers[index].score(scores);
        }
    }

    fn choice(&mut self, index: usize, text: String, end: Option<&End>) -> CompletionChoice {
        let logprobs = std::mem::take(&mut self.answers[index].logprobs);
        let logprobs =
            (self.wants_scores && (!logprobs.tokens.is_empty() || end.is_some())).then_some(logprobs);
        CompletionChoice { index, text, logprobs, finish_reason: end.map(finish_reason) }
    }

    fn write(&mut self, index: usize, text: String, end: Option<&End>, out: &mut Events) {
        let choice = self.choice(index, text, end);
        out.data(&self.completion(vec![choice], None));
    }
}

impl Writer for CompletionWriter {
    fn begin(&mut self, _: &mut Events) {}

    fn step(&mut self, _: &Language, step: Step, out: &mut Events) {
        let Step { index, news } = step;
        if self.answers.len() <= index {
            return;
        }
        match news {
            News::Prompt { text, tokens } => {
                self.score(index, &tokens);
                self.write(index, text, None, out);
            }
            News::Scored(scores) => self.score(index, &scores),
            News::Piece(Piece::Text(text)) => self.write(index, text, None, out),
            News::Piece(_) => {}
            News::Done { reason, called, tokens } => {
                let end = End { reason, called, tokens };
                self.write(index, String::new(), Some(&end), out);
                self.answers[index].end = Some(end);
            }
        }
    }

    fn end(&mut self, _: &Steps, out: &mut Events) {
        if self.include_usage {
            out.data(&self.completion(Vec::new(), Some(self.usage())));
        }
        out.done();
    }

    fn fail(&mut self, error: &Error, out: &mut Events) {
        out.data(&ErrorEnvelope::from(error));
        out.done();
    }
}
