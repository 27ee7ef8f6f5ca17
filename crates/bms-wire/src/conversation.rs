//! A conversation, in the form all chat protocols are translated to before a model's template renders it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Code, Error, Result};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// What a called function returned.
    Tool,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said; empty when there are only calls.
    pub content: String,
    /// What the model thought before it spoke.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// The functions the model calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// The call a tool's result answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// The name of the speaker or of the function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Message {
    /// A turn of plain text.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message {
            role,
            content: content.into(),
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

/// A function the model wants called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// What the result refers to.
    pub id: String,
    /// The function.
    pub name: String,
    /// Its arguments: the text of a JSON object, as the model wrote it.
    pub arguments: String,
}

/// A function the model may call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name: letters, digits, `_`, `-` and `.`.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON schema of its arguments.
    pub parameters: Value,
}

/// Whether the model calls functions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ToolChoice {
    /// It decides.
    #[default]
    Auto,
    /// It does not.
    None,
    /// It must call some function.
    Required,
    /// It must call this one.
    Named(String),
}

/// Everything a model's template sees.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// The turns, oldest first.
    pub messages: Vec<Message>,
    /// The functions on offer.
    pub tools: Vec<Tool>,
    /// Whether they are called.
    pub tool_choice: ToolChoice,
    /// Whether several may be called in one turn; `None` leaves it to the model.
    pub parallel_tool_calls: Option<bool>,
    /// Variables for the template, e.g. `enable_thinking`.
    pub template_variables: Map<String, Value>,
    /// The last turn is the model's and is continued, not answered.
    pub continues: bool,
}

impl Conversation {
    /// A conversation without tools.
    pub fn of(messages: Vec<Message>) -> Self {
        Conversation { messages, ..Conversation::default() }
    }

    /// Checks what all protocols ask of a conversation.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] without a turn, with a choice of a function that is not on offer, with two
    /// functions of one name, or when there is no turn of the model to continue.
    pub fn check(&self) -> Result<()> {
        if self.messages.is_empty() {
            return Err(invalid("messages", "there are no messages"));
        }
        if self.continues && self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            return Err(invalid("messages", "only a last message of the assistant can be continued"));
        }
        for (index, tool) in self.tools.iter().enumerate() {
            if self.tools[..index].iter().any(|other| other.name == tool.name) {
                return Err(invalid("tools", format!("two tools are called `{}`", tool.name)));
            }
        }
        match &self.tool_choice {
            ToolChoice::Auto | ToolChoice::None => Ok(()),
            _ if self.tools.is_empty() => {
                Err(invalid("tool_choice", "a tool is asked for and none is given"))
            }
            ToolChoice::Named(name) if !self.tools.iter().any(|tool| &tool.name == name) => {
                Err(invalid("tool_choice", format!("there is no tool `{name}`")))
            }
            ToolChoice::Required | ToolChoice::Named(_) => Ok(()),
        }
    }

    /// The turns as the templates of models expect them: arguments of calls as objects.
    pub fn template_messages(&self) -> Value {
        self.messages.iter().map(template_message).collect()
    }

    /// The functions as the templates of models expect them; `None` when none may be called.
    pub fn template_tools(&self) -> Option<Value> {
        if self.tools.is_empty() || self.tool_choice == ToolChoice::None {
            return None;
        }
        Some(self.tools.iter().map(template_tool).collect())
    }
}

fn template_message(message: &Message) -> Value {
    let mut value = json!({ "role": message.role, "content": message.content });
    if let Some(reasoning) = &message.reasoning {
        value["reasoning_content"] = json!(reasoning);
    }
    if !message.tool_calls.is_empty() {
        let calls = message.tool_calls.iter().map(|call| {
            let arguments = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
            json!({
                "id": call.id,
                "type": "function",
                "function": { "name": call.name, "arguments": arguments },
            })
        });
        value["tool_calls"] = calls.collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = json!(id);
    }
    if let Some(name) = &message.name {
        value["name"] = json!(name);
    }
    value
}

fn template_tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), json!(tool.name));
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), json!(description));
    }
    function.insert("parameters".to_owned(), tool.parameters.clone());
    json!({ "type": "function", "function": function })
}

fn invalid(field: &str, message: impl Into<String>) -> Error {
    Error::new(Code::InvalidRequest, message).about(field)
}

#[cfg(test)]
mod tests;
