//! OpenAI's protocol.

pub(super) mod chat;
pub(super) mod completion;
pub(super) mod models;
pub(super) mod responses;

use bms_wire::openai::FinishReason;

use super::assembly::End;

/// Why an answer ended, in this protocol's words.
fn finish_reason(end: &End) -> FinishReason {
    use bms_engine::lm::FinishReason as Reason;
    match end.reason {
        // A call that was cut off has no whole arguments: whoever reads `tool_calls` would take them for whole.
        Reason::Length | Reason::Cancelled | Reason::Deadline => FinishReason::Length,
        _ if end.called => FinishReason::ToolCalls,
        Reason::Stop | Reason::StopString(_) => FinishReason::Stop,
    }
}
