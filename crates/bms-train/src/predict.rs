//! An ONNX session as a predictor over a data set.

use bms_data::Dataset;
use bms_nn::Tensor;
use bms_nn::onnx::Session;
use bms_wire::{Code, Error, Pipeline, Result};

use crate::fit::Source;
use crate::samples::{Samples, input_shape, labels};

/// Probabilities, one row per asked sample, in the order of the model's labels.
pub type Probabilities = Vec<Vec<f32>>;

/// A function that runs samples of `data`, given by index, through `pipeline` and `session`, for
/// [`crate::evaluate`].
///
/// # Errors
/// `InvalidInput` when the data set does not fit the pipeline; the function fails as the session does.
pub fn predictor_from<'a>(
    session: &'a mut Session,
    pipeline: &'a Pipeline,
    data: &'a Dataset,
) -> Result<impl FnMut(&[usize]) -> Result<Probabilities> + 'a> {
    let mut scorer = Scorer::new(session, pipeline, data)?;
    Ok(move |rows: &[usize]| Ok(scorer.logits(rows)?.iter().map(|row| softmax(row)).collect()))
}

/// Runs samples through a session.
pub(crate) struct Scorer<'a> {
    session: &'a mut Session,
    samples: Samples<'a>,
    input: String,
    output: String,
    dims: Vec<usize>,
    /// Rows the graph insists on.
    rows_fixed: Option<usize>,
    labels: usize,
}

impl<'a> Scorer<'a> {
    pub(crate) fn new(
        session: &'a mut Session,
        pipeline: &'a Pipeline,
        data: &'a Dataset,
    ) -> Result<Scorer<'a>> {
        let samples = Samples::new(data, pipeline, None)?;
        let ([input], [output, ..]) = (session.inputs(), session.outputs()) else {
            let message = format!("a graph with {} inputs, expected one", session.inputs().len());
            return Err(Error::new(Code::UnsupportedModel, message));
        };
        let (rows_fixed, input, output) =
            (input.shape.first().copied().flatten(), input.name.clone(), output.name.clone());
        let (dims, labels) = (input_shape(pipeline)?.dims(), labels(pipeline)?.len());
        Ok(Scorer { session, samples, input, output, dims, rows_fixed, labels })
    }

    /// Batches over at most `samples_max` of `count` samples, spread evenly: of `rows_max` rows, or of as many
    /// as the graph insists on.
    pub(crate) fn batches(&self, count: usize, samples_max: usize, rows_max: usize) -> Vec<Vec<usize>> {
        let used = count.min(samples_max);
        let picked: Vec<usize> = (0..used).map(|idx| idx * count / used).collect();
        let rows = self.rows_fixed.unwrap_or(rows_max).max(1);
        let pad = |chunk: &[usize]| {
            let mut chunk = chunk.to_vec();
            if self.rows_fixed.is_some() {
                chunk.resize(rows, chunk[chunk.len() - 1]);
            }
            chunk
        };
        picked.chunks(rows).map(pad).collect()
    }

    /// The model's input `[rows, …]` for these samples.
    pub(crate) fn tensor(&self, rows: &[usize]) -> Result<Tensor> {
        let mut values = Vec::new();
        for &idx in rows {
            self.samples.fill(idx, None, &mut values)?;
        }
        let shape = std::iter::once(rows.len()).chain(self.dims.iter().copied()).collect();
        Tensor::f32(shape, values)
    }

    /// The outputs of the graph for one input tensor.
    pub(crate) fn run(&mut self, input: Tensor) -> Result<Vec<(String, Tensor)>> {
        self.session.run(vec![(self.input.clone(), input)])
    }

    /// One row of logits per sample.
    pub(crate) fn logits(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let Some(fixed) = self.rows_fixed.filter(|fixed| *fixed != rows.len() && *fixed != 0) else {
            return self.batch(rows);
        };
        let mut all = Vec::with_capacity(rows.len());
        for chunk in rows.chunks(fixed) {
            // The graph takes exactly `fixed` rows: the last sample fills up, its answers are dropped.
            let mut padded = chunk.to_vec();
            padded.resize(fixed, chunk[chunk.len() - 1]);
            let mut answers = self.batch(&padded)?;
            answers.truncate(chunk.len());
            all.extend(answers);
        }
        Ok(all)
    }

    fn batch(&mut self, rows: &[usize]) -> Result<Vec<Vec<f32>>> {
        let input = self.tensor(rows)?;
        let outputs = self.run(input)?;
        let found =
            outputs.iter().find(|(name, _)| *name == self.output).and_then(|(_, tensor)| tensor.as_f32());
        match found {
            Some(values) if values.len() == rows.len() * self.labels => {
                Ok(values.chunks_exact(self.labels).map(<[f32]>::to_vec).collect())
            }
            _ => {
                let message =
                    format!("the output `{}` is not f32 [{}, {}]", self.output, rows.len(), self.labels);
                Err(Error::new(Code::UnsupportedModel, message))
            }
        }
    }
}

/// Softmax, with the largest value subtracted first so that nothing overflows.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f32> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|x| (x - most).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests;
