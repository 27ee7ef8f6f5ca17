//! What a graph's output becomes.

pub(crate) mod boxes;
pub(crate) mod line;
pub(crate) mod regions;
pub(crate) mod speech;
mod vector;

use bms_nn::Tensor;
use bms_wire::{Activation, Code, Error, LabelsOutput, Postprocess, Result};

use crate::answer::{Answer, classify};
use crate::engine::Description;
use crate::input::Context;

/// The answer of one run. Who brought tensors gets tensors: where a picture or text was not seen, nothing is said of it.
pub(crate) fn finish(
    model: &Description,
    context: Context,
    outputs: Vec<(String, Tensor)>,
) -> Result<Answer> {
    let (mut classes, mut found) = (None, None);
    match (&model.pipeline.postprocess, context) {
        (Postprocess::Classify { labels }, _) => {
            let (labels, activation, top) = (labels.clone(), Activation::Softmax, None);
            classes = Some(classify(&outputs, &LabelsOutput { labels, activation, top })?);
        }
        (Postprocess::Labels(output), _) => classes = Some(classify(&outputs, output)?),
        (Postprocess::Vector(output), Context::Mask(mask)) => {
            found = Some(vector::read(output, first(&outputs)?, Some(&mask))?);
        }
        (Postprocess::Vector(output), Context::Frames(_)) => {
            found = Some(vector::read(output, first(&outputs)?, None)?)
        }
        (Postprocess::Boxes(output), Context::Frames(frames)) => {
            found = Some(boxes::read(output, first(&outputs)?, &frames)?)
        }
        (Postprocess::Line(output), Context::Frames(_)) => {
            found = Some(line::read(output, first(&outputs)?)?)
        }
        _ => {}
    }
    Ok(Answer { outputs, classes, found })
}

fn broken(what: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("the model's output cannot be read: {what}"))
}

fn first(outputs: &[(String, Tensor)]) -> Result<&Tensor> {
    outputs.first().map(|(_, tensor)| tensor).ok_or_else(|| broken("there is none"))
}

/// The finite f32 values of a tensor of so many axes.
fn floats<const N: usize>(tensor: &Tensor) -> Result<([usize; N], &[f32])> {
    let shape = <[usize; N]>::try_from(tensor.shape());
    let shape =
        shape.map_err(|_| broken(format!("its shape is {:?}, {N} axes are expected", tensor.shape())))?;
    let values = tensor.as_f32().ok_or_else(|| broken("it is not f32"))?;
    match tensor.is_finite() {
        true => Ok((shape, values)),
        false => Err(broken("it holds NaN or infinity")),
    }
}

#[cfg(test)]
mod tests;
