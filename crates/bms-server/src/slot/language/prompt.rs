//! From a conversation to the tokens a model continues, and how its answer is to be read.

use bms_engine::lm::Constraint;
use bms_wire::conversation::{Conversation, Message, Role, Tool, ToolChoice};
use bms_wire::generation;
use bms_wire::{Code, Error, Result};
use serde_json::{Value, json};

use super::reader::{CALL, CALL_END, Form, Opening, Reading, THINK, THINK_END, TOOL_CALLS};
use super::{Language, Script};

/// Calls in one answer when calls are constrained and several may be made.
const CALLS_MAX: usize = 16;

/// What a model continues.
#[derive(Clone, Debug)]
pub(super) struct Prompt {
    /// The tokens.
    pub(super) tokens: Vec<u32>,
    /// How the answer is to be read.
    pub(super) reading: Reading,
    /// Functions on offer.
    pub(super) functions: Vec<String>,
    /// What the answer must look like.
    pub(super) constraint: Option<Constraint>,
}

/// How the model with this template writes calls of functions.
pub(super) fn form_of(script: &dyn Script) -> Form {
    let mentions = |word: &str| script.template_mentions(word);
    if mentions(TOOL_CALLS) {
        Form::Mistral
    } else if !mentions(CALL) && (mentions("python_tag") || mentions("ipython")) {
        Form::Llama
    } else {
        Form::Hermes
    }
}

impl Language {
    /// The prompt of a conversation, to be answered under a constraint.
    ///
    /// # Errors
    /// [`Code::InvalidInput`] when the template refuses the conversation, [`Code::InvalidRequest`] when an option
    /// means nothing to this model.
    pub(super) fn prompt(
        &self,
        conversation: &Conversation,
        constraint: Option<&generation::Constraint>,
    ) -> Result<Prompt> {
        self.check_variables(conversation)?;
        let mut text = self.render(conversation)?;
        let mut opening = if text.trim_end().ends_with(THINK) { Opening::Thought } else { Opening::None };
        let tools = offered(conversation);
        let constraint = self.form_of_answer(conversation, tools, constraint)?;
        if constraint.is_some() && opening == Opening::Thought {
            // What is constrained begins at once, so the model gets no room to think.
            text.push_str(&format!("\n{THINK_END}\n\n"));
            opening = Opening::None;
        }
        if forced(&conversation.tool_choice) {
            match self.form {
                Form::Hermes => text.push_str(&format!("{CALL}\n")),
                Form::Mistral => text.push_str(TOOL_CALLS),
                Form::Llama => {}
            }
            opening = Opening::Call;
        }
        let reading = Reading {
            calls: (!tools.is_empty()).then_some(self.form),
            thinks: self.thinks && constraint.is_none(),
            opening,
        };
        let tokens = self.shield.encode(&*self.script, &text)?;
        let functions = tools.iter().map(|tool| tool.name.clone()).collect();
        Ok(Prompt { tokens, reading, functions, constraint })
    }

    /// Refuses variables the template does not know: they would change nothing, silently.
    fn check_variables(&self, conversation: &Conversation) -> Result<()> {
        let unknown = conversation.template_variables.iter().find(|(name, value)| {
            // Not to think is what a model does that cannot.
            let harmless = *name == "enable_thinking" && **value == Value::Bool(false);
            !harmless && !self.script.template_mentions(name)
        });
        match unknown {
            None => Ok(()),
            Some((name, _)) => Err(Error::new(
                Code::InvalidRequest,
                format!("this model's template knows no `{name}`, so that setting it would change nothing"),
            )
            .about(name)),
        }
    }

    fn render(&self, conversation: &Conversation) -> Result<String> {
        let covered = self.shield.cover(conversation);
        let conversation = covered.as_ref().unwrap_or(conversation);
        let adapted;
        let conversation = if self.template_knows_tools {
            conversation
        } else {
            adapted = in_words(conversation);
            &adapted
        };
        let mut messages = conversation.template_messages();
        let begun = match (&mut messages, conversation.continues) {
            (Value::Array(messages), true) => messages.pop(),
            _ => None,
        };
        let tools = conversation.template_tools();
        let mut text =
            self.script.render(&messages, tools.as_ref(), true, &conversation.template_variables)?;
        if let Some(begun) = begun {
            text.push_str(begun["content"].as_str().unwrap_or_default());
        }
        Ok(text)
    }

    /// What the answer must look like, calls of functions included.
    fn form_of_answer(
        &self,
        conversation: &Conversation,
        tools: &[Tool],
        asked: Option<&generation::Constraint>,
    ) -> Result<Option<Constraint>> {
        let chosen: Vec<&Tool> = match &conversation.tool_choice {
            ToolChoice::Named(name) => tools.iter().filter(|tool| &tool.name == name).collect(),
            ToolChoice::Auto | ToolChoice::None | ToolChoice::Required => tools.iter().collect(),
        };
        let several = conversation.parallel_tool_calls == Some(true);
        if forced(&conversation.tool_choice) {
            // A call that is asked for takes the place of an answer in any form.
            return Ok(Some(Constraint::Lark(call_grammar(self.form, &chosen, several, None))));
        }
        let Some(asked) = asked else { return Ok(None) };
        if chosen.is_empty() {
            return Ok(Some(constraint(asked)));
        }
        let schema = match asked {
            generation::Constraint::JsonObject => json!({ "type": "object" }),
            generation::Constraint::JsonSchema(schema) => compact(schema.clone()),
            _ => {
                let what = "an answer cannot be constrained this way while tools are on offer";
                return Err(Error::new(Code::InvalidRequest, what)
                    .hint("Use a JSON schema, or set `tool_choice` to none.")
                    .about("tools"));
            }
        };
        Ok(Some(Constraint::Lark(call_grammar(self.form, &chosen, several, Some(&schema)))))
    }
}

/// The functions that may be called.
fn offered(conversation: &Conversation) -> &[Tool] {
    if conversation.tool_choice == ToolChoice::None { &[] } else { &conversation.tools }
}

fn forced(choice: &ToolChoice) -> bool {
    matches!(choice, ToolChoice::Required | ToolChoice::Named(_))
}

/// A grammar of calls, or of either calls or an answer that fits a schema. Without an answer the prompt has opened
/// the call already.
fn call_grammar(form: Form, tools: &[&Tool], several: bool, answer: Option<&Value>) -> String {
    let arguments = if form == Form::Llama { "parameters" } else { "arguments" };
    let calls = match (form, several) {
        (Form::Hermes, false) | (Form::Llama, false) => "call".to_owned(),
        (Form::Hermes, true) => {
            let more = format!("\"\\n{CALL_END}\\n{CALL}\\n\" call");
            format!("call ({more}){{0,{}}}", CALLS_MAX - 1)
        }
        (Form::Llama, true) => format!("call (\"; \" call){{0,{}}}", CALLS_MAX - 1),
        (Form::Mistral, false) => "\"[\" call \"]\"".to_owned(),
        (Form::Mistral, true) => format!("\"[\" call (\", \" call){{0,{}}} \"]\"", CALLS_MAX - 1),
    };
    let mut grammar = match (answer, form) {
        (None, _) => format!("start: {calls}\n"),
        (Some(schema), Form::Hermes) => {
            format!("start: answer | \"{CALL}\\n\" {calls} \"\\n{CALL_END}\"\nanswer: %json {schema}\n")
        }
        (Some(schema), Form::Mistral) => {
            format!("start: answer | \"{TOOL_CALLS}\" {calls}\nanswer: %json {schema}\n")
        }
        (Some(schema), Form::Llama) => format!("start: answer | {calls}\nanswer: %json {schema}\n"),
    };
    let names: Vec<String> = (0..tools.len()).map(|index| format!("call_{index}")).collect();
    grammar.push_str(&format!("call: {}\n", names.join(" | ")));
    for (index, tool) in tools.iter().enumerate() {
        let name = json!(tool.name).to_string();
        let begin = json!(format!("{{\"name\": {name}, \"{arguments}\": "));
        let parameters = object_schema(&tool.parameters);
        grammar.push_str(&format!("call_{index}: {begin} arguments_{index} \"}}\"\n"));
        grammar.push_str(&format!("arguments_{index}: %json {parameters}\n"));
    }
    grammar
}

/// What a schema may hold beside properties that it does not name.
const WITHOUT_PROPERTIES: [&str; 6] = ["type", "properties", "required", "title", "description", "$schema"];

/// Arguments are an object, whatever a schema leaves open. An object with no properties is how a function without
/// parameters is described: a small model that may write others can write them for ever.
fn object_schema(parameters: &Value) -> Value {
    let mut schema = match parameters {
        Value::Object(schema) if !schema.is_empty() => schema.clone(),
        _ => serde_json::Map::from_iter([("properties".to_owned(), json!({}))]),
    };
    let names_none =
        schema.get("properties").and_then(Value::as_object).is_some_and(serde_json::Map::is_empty);
    if names_none && schema.keys().all(|key| WITHOUT_PROPERTIES.contains(&key.as_str())) {
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("additionalProperties".to_owned(), json!(false));
    }
    compact(Value::Object(schema))
}

/// What the engine is to keep to.
pub(super) fn constraint(asked: &generation::Constraint) -> Constraint {
    match asked {
        generation::Constraint::JsonObject => Constraint::JsonSchema(compact(json!({ "type": "object" }))),
        generation::Constraint::JsonSchema(schema) => Constraint::JsonSchema(compact(schema.clone())),
        generation::Constraint::Regex(regex) => Constraint::Regex(regex.clone()),
        generation::Constraint::Grammar(grammar) => Constraint::Lark(grammar.clone()),
        generation::Constraint::Choice(choices) => Constraint::Choice(choices.clone()),
    }
}

/// The schema, with no more blanks than JSON needs unless it says otherwise: a small model that may write blanks can
/// write them for ever.
fn compact(mut schema: Value) -> Value {
    if let Value::Object(fields) = &mut schema {
        fields.entry("x-guidance").or_insert_with(
            || json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " }),
        );
    }
    schema
}

/// A conversation for a template that knows nothing of functions: they are described in words, and calls and their
/// results are written into the text.
fn in_words(conversation: &Conversation) -> Conversation {
    let mut adapted = conversation.clone();
    for message in &mut adapted.messages {
        let calls: Vec<String> = message
            .tool_calls
            .drain(..)
            .map(|call| {
                let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
                format!("{CALL}\n{{\"name\": {}, \"arguments\": {arguments}}}\n{CALL_END}", json!(call.name))
            })
            .collect();
        if !calls.is_empty() {
            let said = std::mem::take(&mut message.content);
            message.content = [said]
                .into_iter()
                .filter(|said| !said.is_empty())
                .chain(calls)
                .collect::<Vec<_>>()
                .join("\n");
        }
        if message.role == Role::Tool {
            message.role = Role::User;
            message.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
            message.tool_call_id = None;
        }
    }
    let tools = offered(conversation);
    if !tools.is_empty() {
        let words = description(tools);
        match adapted.messages.first_mut() {
            Some(first) if first.role == Role::System => {
                first.content = format!("{}\n\n{words}", first.content)
            }
            _ => adapted.messages.insert(0, Message::new(Role::System, words)),
        }
    }
    adapted.tools.clear();
    adapted
}

fn description(tools: &[Tool]) -> String {
    let signature = |tool: &Tool| {
        json!({ "type": "function", "function": {
            "name": tool.name, "description": tool.description, "parameters": tool.parameters } })
        .to_string()
    };
    let signatures: Vec<String> = tools.iter().map(signature).collect();
    format!(
        "# Tools\n\nYou may call one or more functions to assist with the user query. You are provided with \
         function signatures within <tools></tools> XML tags:\n<tools>\n{}\n</tools>\n\nFor each function call, \
         return a json object with function name and arguments within {CALL}{CALL_END} XML tags:\n{CALL}\n\
         {{\"name\": <function-name>, \"arguments\": <args-json-object>}}\n{CALL_END}",
        signatures.join("\n")
    )
}
