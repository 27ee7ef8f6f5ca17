//! What crosses a network or a process boundary.
//!
//! The data types here are promises to other programs: the error-code table, the declarative
//! pre- and postprocessing pipelines, the Open Inference Protocol, the text-generation protocols of OpenAI and
//! Anthropic, and the management API.
//! They hold no behaviour beyond validation; what they mean is decided in the crates above.

mod code;
mod error;
mod fields;
mod host;
mod outcome;
mod pipeline;

pub mod anthropic;
pub mod api;
pub mod client;
pub mod conversation;
pub mod generation;
pub mod language;
pub mod limits;
pub mod oip;
pub mod openai;
pub mod tls;

pub use code::{Code, Retry};
pub use error::{Error, ErrorBody, Result};
pub use fields::Fields;
pub use host::{check_address, check_host};
pub use outcome::{FoundBox, FoundLine, Outcome, Outcomes, Scored, Segment};
pub use pipeline::{
    Activation, AudioInput, BoxLayout, BoxesOutput, BytesInput, Colour, ImageInput, LabelsOutput, Layout,
    LineOutput, LinesOutput, PictureInput, PictureStep, Pipeline, Pooled, Postprocess, Preprocess,
    Recogniser, Resampler, SpeechOutput, StateTensor, TableInput, TextInput, VectorOutput,
};
