//! The engine's answer in the protocol's form.

use bms_nn::{Data, Tensor};
use bms_wire::oip::{InferResponse, InferTensor, Parameters, binary};
use bms_wire::{Code, Error, Result};
use serde_json::json;

use super::request::Asked;
use super::{LABEL, PROBABILITY, Shown, datatype, found};
use crate::{Answer, Classification, Description};

/// An answer: what is said in JSON, and the tensors that follow it.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// In JSON.
    pub head: InferResponse<Shown>,
    /// In binary form.
    tail: Vec<u8>,
}

impl Response {
    /// The body, and how much of it is JSON when something follows.
    ///
    /// # Errors
    /// [`Code::Internal`] when it cannot be written.
    pub fn into_body(self) -> Result<(Vec<u8>, Option<usize>)> {
        let mut body = serde_json::to_vec(&self.head)
            .map_err(|e| Error::new(Code::Internal, "the answer cannot be written as JSON").because(e))?;
        let is_binary =
            self.head.outputs.iter().any(|output| output.parameters.contains_key(binary::DATA_SIZE));
        let head_bytes = is_binary.then_some(body.len());
        body.extend_from_slice(&self.tail);
        Ok((body, head_bytes))
    }
}

/// The answer in the protocol's form.
///
/// # Errors
/// [`Code::InvalidInput`] when an output has no classes.
pub fn answer_to_response(
    model: &Description,
    answer: Answer,
    asked: &Asked,
    version: Option<String>,
) -> Result<Response> {
    let mut tensors = answer.outputs;
    let raw = tensors.len();
    if let Some(classes) = &answer.classes {
        tensors.extend(class_outputs(classes)?);
    }
    if let Some(outcomes) = &answer.found {
        tensors.extend(found::outputs(outcomes)?);
    }
    let absent = asked.outputs.iter().find(|wanted| !tensors.iter().any(|(name, _)| *name == wanted.name));
    if let Some(wanted) = absent {
        let what = format!("the answer to this input has no output `{}`", wanted.name);
        return Err(Error::new(Code::InvalidInput, what)
            .hint("A graph that runs several times for one input has no output of its own; tensors have no outcome."));
    }
    let (mut outputs, mut tail) = (Vec::new(), Vec::new());
    if asked.outputs.is_empty() {
        // What was found is the answer; what it was found in can be asked for.
        let shown = if answer.found.is_some() { raw } else { 0 };
        for (name, tensor) in tensors.drain(shown..) {
            outputs.push(output(name, tensor, asked.all_binary, &mut tail));
        }
    }
    // In the order of the graph, as ever; the bytes follow in the same order.
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        for wanted in asked.outputs.iter().filter(|wanted| wanted.name == *name) {
            let classes = wanted.classes.map(|best| {
                let labels = if index == 0 { model.labels() } else { &[] };
                best_classes(tensor, best, labels).map_err(|e| e.while_doing(format!("classify `{name}`")))
            });
            let tensor = classes.transpose()?.unwrap_or_else(|| tensor.clone());
            outputs.push(output(name.clone(), tensor, wanted.binary, &mut tail));
        }
    }
    let head = InferResponse {
        model_name: model.name.clone(),
        model_version: version,
        id: asked.id.clone(),
        parameters: Parameters::new(),
        outputs,
    };
    Ok(Response { head, tail })
}

fn output(name: String, tensor: Tensor, is_binary: bool, tail: &mut Vec<u8>) -> InferTensor<Shown> {
    let mut parameters = Parameters::new();
    let datatype = datatype(tensor.dtype());
    let (shape, data) = tensor.into_parts();
    let data = match is_binary {
        false => Some(data),
        true => {
            let start = tail.len();
            match data.as_text() {
                Some(texts) => texts.iter().for_each(|text| binary::push_element(tail, text.as_bytes())),
                None => data.extend_le_bytes(tail),
            }
            parameters.insert(binary::DATA_SIZE.to_owned(), json!(tail.len() - start));
            None
        }
    };
    let shape = shape.into_iter().map(|d| d as i64).collect();
    InferTensor { name, shape, datatype, parameters, data: Shown(data) }
}

/// Labels and probabilities as tensors.
fn class_outputs(classes: &[Classification]) -> Result<[(String, Tensor); 2]> {
    let width = classes.first().map_or(0, |c| c.ranked.len());
    let flat = || classes.iter().flat_map(|c| &c.ranked);
    let output = |name: &str, data| {
        Tensor::new(vec![classes.len(), width], data).map(|tensor| (name.to_owned(), tensor))
    };
    Ok([
        output(LABEL, Data::Text(flat().map(|(label, _)| label.clone()).collect()))?,
        output(PROBABILITY, Data::F32(flat().map(|(_, p)| *p).collect()))?,
    ])
}

/// The best classes of each row as `value:index` and, where there are labels, `:label`; a tensor of one dimension is one
/// row. Equal values come in the order of their index.
fn best_classes(tensor: &Tensor, best: usize, labels: &[String]) -> Result<Tensor> {
    let values = comparable(tensor.data())?;
    let (rows, width) = match tensor.shape() {
        [] => (1, 1),
        [width] => (1, *width),
        [rows, ..] => (*rows, tensor.row_len()),
    };
    let best = best.min(width);
    let mut texts = Vec::with_capacity(rows.saturating_mul(best));
    for row in 0..rows {
        let at = |column: usize| row * width + column;
        let mut ranked: Vec<usize> = (0..width).collect();
        ranked.sort_by(|&a, &b| values.order(at(b), at(a)).then(a.cmp(&b)));
        for &column in &ranked[..best] {
            let mut text = format!("{}:{column}", values.shown(at(column)));
            if labels.len() == width {
                text.push(':');
                text.push_str(&labels[column]);
            }
            texts.push(text);
        }
    }
    let shape = if tensor.shape().len() < 2 { vec![best] } else { vec![rows, best] };
    Tensor::new(shape, Data::Text(texts))
}

/// Numbers that can be ranked.
enum Comparable {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
}

impl Comparable {
    fn order(&self, a: usize, b: usize) -> std::cmp::Ordering {
        match self {
            Comparable::Floats(values) => values[a].total_cmp(&values[b]),
            Comparable::Integers(values) => values[a].cmp(&values[b]),
        }
    }

    fn shown(&self, at: usize) -> String {
        match self {
            Comparable::Floats(values) => format!("{:.6}", values[at]),
            Comparable::Integers(values) => values[at].to_string(),
        }
    }
}

fn comparable(data: &Data) -> Result<Comparable> {
    fn integers<T: Copy + Into<i128>>(values: &[T]) -> Comparable {
        Comparable::Integers(values.iter().map(|&v| v.into()).collect())
    }
    fn floats<T: Copy + Into<f64>>(values: &[T]) -> Comparable {
        Comparable::Floats(values.iter().map(|&v| v.into()).collect())
    }
    Ok(match data {
        Data::F32(v) => floats(v),
        Data::F64(v) => floats(v),
        Data::F16(v) => floats(v),
        Data::BF16(v) => floats(v),
        Data::I64(v) => integers(v),
        Data::I32(v) => integers(v),
        Data::I16(v) => integers(v),
        Data::I8(v) => integers(v),
        Data::U64(v) => integers(v),
        Data::U32(v) => integers(v),
        Data::U16(v) => integers(v),
        Data::U8(v) => integers(v),
        Data::Bool(_) | Data::Text(_) => {
            let what = format!("values of type {} cannot be ranked", data.dtype());
            return Err(Error::new(Code::InvalidInput, what));
        }
    })
}
