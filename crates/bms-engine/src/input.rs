//! What goes into a model, and how it becomes the graph's tensors.

use bms_data::{Image, preprocess_image, preprocess_row};
use bms_nn::onnx::ValueSpec;
use bms_nn::{Data, Tensor};
use bms_wire::{Code, Error, Preprocess, Result, limits};

use crate::Description;

/// One request's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The graph's own tensors by name, taken as they are.
    Tensors(Vec<(String, Tensor)>),
    /// Encoded pictures (PNG or JPEG), one a row.
    Images(Vec<Vec<u8>>),
    /// Rows of numbers, in the order of the pipeline's columns.
    Rows(Vec<Vec<f32>>),
}

impl Input {
    /// Samples in it: pictures, rows, or the first axis of the tensors.
    pub fn rows(&self) -> usize {
        match self {
            Input::Tensors(tensors) => tensors.iter().map(|(_, tensor)| tensor.rows()).max().unwrap_or(0),
            Input::Images(images) => images.len(),
            Input::Rows(rows) => rows.len(),
        }
    }
}

/// Checks and preprocesses an input into tensors the graph takes.
pub(crate) fn prepare(model: &Description, input: Input) -> Result<Vec<(String, Tensor)>> {
    if input.rows() == 0 {
        return Err(Error::new(Code::InvalidInput, "the request holds no rows"));
    }
    let tensors = match (&model.pipeline.preprocess, input) {
        (_, Input::Tensors(tensors)) => tensors,
        (Preprocess::Image(pipeline), Input::Images(pictures)) => {
            let size = [pipeline.channels(), pipeline.height as usize, pipeline.width as usize];
            check_count(pictures.len(), size.iter().product())?;
            let mut values = Vec::with_capacity(pictures.len() * size.iter().product::<usize>());
            for (index, picture) in pictures.iter().enumerate() {
                let image =
                    Image::decode(picture).map_err(|e| e.while_doing(format!("read picture {index}")))?;
                values.extend(preprocess_image(pipeline, &image)?);
            }
            one(model, [&[pictures.len()], &size[..]].concat(), values)?
        }
        (Preprocess::Table(pipeline), Input::Rows(rows)) => {
            check_count(rows.len(), pipeline.columns.len())?;
            let mut values = Vec::with_capacity(rows.len() * pipeline.columns.len());
            for (index, row) in rows.iter().enumerate() {
                let row =
                    preprocess_row(pipeline, row).map_err(|e| e.while_doing(format!("read row {index}")))?;
                values.extend(row);
            }
            one(model, vec![rows.len(), pipeline.columns.len()], values)?
        }
        (_, Input::Images(_)) => return Err(unfit(model, "pictures")),
        (_, Input::Rows(_)) => return Err(unfit(model, "rows of numbers")),
    };
    check(model, &tensors)?;
    Ok(tensors)
}

/// The graph's one input with these values.
fn one(model: &Description, shape: Vec<usize>, values: Vec<f32>) -> Result<Vec<(String, Tensor)>> {
    let name = model.inputs.first().map(|spec| spec.name.clone()).unwrap_or_default();
    Ok(vec![(name, Tensor::f32(shape, values)?)])
}

fn check_count(rows: usize, values: usize) -> Result<()> {
    if limits::TENSOR_VALUES_MAX < rows.saturating_mul(values) {
        let most = limits::TENSOR_VALUES_MAX / values.max(1);
        return Err(Error::new(Code::TooLarge, format!("{rows} rows in one request"))
            .hint(format!("At most {most} rows of this model fit in one request.")));
    }
    Ok(())
}

fn unfit(model: &Description, what: &str) -> Error {
    let takes: Vec<String> = model.inputs.iter().map(ToString::to_string).collect();
    Error::new(Code::InvalidInput, format!("`{}` does not take {what}", model.name))
        .hint(format!("Its tensors are: {}.", takes.join(", ")))
}

/// Names, types, shapes and finite values, before anything runs or is joined with others' rows.
fn check(model: &Description, tensors: &[(String, Tensor)]) -> Result<()> {
    let takes = || model.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let Some(spec) = model.inputs.iter().find(|spec| spec.name == *name) else {
            let what = format!("`{}` has no input `{name}`", model.name);
            return Err(Error::new(Code::InvalidInput, what).hint(format!("It takes {}.", takes())));
        };
        if tensors[..index].iter().any(|(other, _)| other == name) {
            return Err(Error::new(Code::InvalidInput, format!("input `{name}` is given twice")));
        }
        check_tensor(spec, tensor)?;
    }
    if let Some(missing) =
        model.inputs.iter().find(|spec| !tensors.iter().any(|(name, _)| *name == spec.name))
    {
        let what = format!("input `{}` is missing", missing.name);
        return Err(Error::new(Code::InvalidInput, what).hint(format!(
            "`{}` takes {}.",
            model.name,
            takes()
        )));
    }
    Ok(())
}

fn check_tensor(spec: &ValueSpec, tensor: &Tensor) -> Result<()> {
    let fits = !spec.ranked
        || (spec.shape.len() == tensor.shape().len()
            && spec.shape.iter().zip(tensor.shape()).all(|(want, got)| want.is_none_or(|want| want == *got)));
    if spec.dtype != tensor.dtype() || !fits {
        let got = format!("{}{:?}", tensor.dtype(), tensor.shape());
        return Err(Error::new(Code::InvalidInput, format!("input {spec} is given as {got}")));
    }
    if limits::TENSOR_VALUES_MAX < tensor.data().len() {
        return Err(Error::new(
            Code::TooLarge,
            format!("input `{}` has {} values", spec.name, tensor.data().len()),
        ));
    }
    match not_finite(tensor.data()) {
        None => Ok(()),
        Some(at) => {
            let what = format!("value {at} of input `{}` is not a finite number", spec.name);
            Err(Error::new(Code::InvalidInput, what)
                .hint("NaN and infinity are refused: they would spoil the answer."))
        }
    }
}

fn not_finite(data: &Data) -> Option<usize> {
    match data {
        Data::F32(values) => values.iter().position(|v| !v.is_finite()),
        Data::F64(values) => values.iter().position(|v| !v.is_finite()),
        Data::F16(values) => values.iter().position(|v| !v.is_finite()),
        Data::BF16(values) => values.iter().position(|v| !v.is_finite()),
        _ => None,
    }
}
