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
        _ if end.called => FinishReason::ToolCalls,
        Reason::Length | Reason::Cancelled | Reason::Deadline => FinishReason::Length,
        Reason::Stop | Reason::StopString(_) => FinishReason::Stop,
    }
}
