//! Tensors and the ONNX run-times behind one interface.
//!
//! [`Tensor`] is what goes in and comes out; [`onnx::load`] turns the bytes of a model into a
//! [`onnx::Session`] on whichever run-time is asked for or measured to be faster.

mod tensor;

pub mod lm;
pub mod onnx;

pub use tensor::{DType, Data, Tensor};
