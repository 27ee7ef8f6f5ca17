use serde_json::json;

use super::{Conversation, Message, Role, Tool, ToolCall, ToolChoice};

#[test]
fn templates_see_arguments_as_objects_and_no_tools_when_none_may_be_called() {
    let mut turn = Message::new(Role::Assistant, "");
    turn.tool_calls.push(ToolCall { id: "a".into(), name: "f".into(), arguments: r#"{"x":1}"#.into() });
    let mut conversation = Conversation::of(vec![turn]);
    let messages = conversation.template_messages();
    assert_eq!(messages[0]["tool_calls"][0]["function"]["arguments"], json!({"x": 1}));
    assert_eq!(conversation.template_tools(), None);
    conversation.tools.push(Tool { name: "f".into(), description: None, parameters: json!({}) });
    assert_eq!(conversation.template_tools().unwrap()[0]["function"]["name"], json!("f"));
    conversation.tool_choice = ToolChoice::None;
    assert_eq!(conversation.template_tools(), None);
}

#[test]
fn contradictions_are_refused() {
    assert!(Conversation::default().check().is_err());
    let mut conversation = Conversation::of(vec![Message::new(Role::User, "hi")]);
    conversation.check().unwrap();
    conversation.tool_choice = ToolChoice::Required;
    assert_eq!(conversation.check().unwrap_err().field(), Some("tool_choice"));
    conversation.tools.push(Tool { name: "f".into(), description: None, parameters: json!({}) });
    conversation.check().unwrap();
    conversation.tool_choice = ToolChoice::Named("g".into());
    assert_eq!(conversation.check().unwrap_err().field(), Some("tool_choice"));
    conversation.tool_choice = ToolChoice::Auto;
    conversation.continues = true;
    assert_eq!(conversation.check().unwrap_err().field(), Some("messages"));
}
