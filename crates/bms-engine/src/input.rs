//! What goes into a model, and how it becomes the graph's tensors.

mod bytes;
pub(crate) mod recording;
mod text;

use bms_data::{Frame, Image, prepare_picture, preprocess_image, preprocess_row};
use bms_nn::onnx::ValueSpec;
use bms_nn::{Data, Tensor};
use bms_wire::{Code, Error, PictureInput, Preprocess, Result, limits};

use crate::Description;
use crate::parts::Parts;

/// One request's input.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The graph's own tensors by name, taken as they are.
    Tensors(Vec<(String, Tensor)>),
    /// Encoded pictures (PNG or JPEG), one a row.
    Images(Vec<Vec<u8>>),
    /// Rows of numbers, in the order of the pipeline's columns.
    Rows(Vec<Vec<f32>>),
    /// Texts, one a row.
    Texts(Vec<String>),
    /// Files as they are, one a row: what the pipeline says of their bytes, or recordings (WAV).
    Files(Vec<Vec<u8>>),
}

impl Input {
    /// Samples in it: pictures, rows, or the first axis of the tensors.
    pub fn rows(&self) -> usize {
        match self {
            Input::Tensors(tensors) => tensors.iter().map(|(_, tensor)| tensor.rows()).max().unwrap_or(0),
            Input::Images(images) => images.len(),
            Input::Rows(rows) => rows.len(),
            Input::Texts(texts) => texts.len(),
            Input::Files(files) => files.len(),
        }
    }
}

/// Tensors a graph takes, and what the answer needs of where they came from.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) tensors: Vec<(String, Tensor)>,
    pub(crate) context: Context,
}

/// What the answer needs of its input.
#[derive(Debug)]
pub(crate) enum Context {
    /// Nothing.
    Plain,
    /// Where the prepared pictures lie in their originals.
    Frames(Vec<Frame>),
    /// Which places of the texts are tokens, row by row.
    Mask(Vec<Vec<bool>>),
}

/// Checks and preprocesses an input into tensors the graph takes.
pub(crate) fn prepare(model: &Description, parts: &Parts, input: Input) -> Result<Ready> {
    if input.rows() == 0 {
        return Err(Error::new(Code::InvalidInput, "the request holds no rows"));
    }
    let mut context = Context::Plain;
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
        (Preprocess::Picture(pipeline), Input::Images(pictures)) => {
            let (tensor, frames) = picture_tensor(pipeline, &pictures)?;
            context = Context::Frames(frames);
            vec![(first_name(model), tensor)]
        }
        (Preprocess::Text(pipeline), Input::Texts(texts)) => {
            let (tensors, mask) = text::tensors(model, pipeline, parts, &texts)?;
            context = Context::Mask(mask);
            tensors
        }
        (Preprocess::Bytes(pipeline), Input::Files(files)) => {
            vec![(first_name(model), bytes::tensor(pipeline, &files)?)]
        }
        (_, Input::Images(_)) => return Err(unfit(model, "pictures")),
        (_, Input::Rows(_)) => return Err(unfit(model, "rows of numbers")),
        (_, Input::Texts(_)) => return Err(unfit(model, "texts")),
        (_, Input::Files(_)) => return Err(unfit(model, "files")),
    };
    check(model, &tensors)?;
    Ok(Ready { tensors, context })
}

/// Pictures that come out of the pipeline's steps equally large, and how they lie in their originals.
pub(crate) fn picture_tensor(pipeline: &PictureInput, pictures: &[Vec<u8>]) -> Result<(Tensor, Vec<Frame>)> {
    let (mut values, mut frames, mut shape) = (Vec::new(), Vec::new(), Vec::new());
    for (index, picture) in pictures.iter().enumerate() {
        let prepared = Image::decode(picture).and_then(|image| prepare_picture(pipeline, &image));
        let prepared = prepared.map_err(|e| e.while_doing(format!("read picture {index}")))?;
        if index != 0 && shape != prepared.shape {
            return Err(Error::new(Code::InvalidInput, format!("picture {index} comes out of another size"))
                .hint("Send pictures of different sizes in requests of their own."));
        }
        check_count(pictures.len(), prepared.values.len())?;
        values.extend(prepared.values);
        frames.push(prepared.frame);
        shape = prepared.shape;
    }
    Ok((Tensor::f32([&[pictures.len()], &shape[..]].concat(), values)?, frames))
}

fn first_name(model: &Description) -> String {
    model.inputs.first().map(|spec| spec.name.clone()).unwrap_or_default()
}

/// The graph's one input with these values.
fn one(model: &Description, shape: Vec<usize>, values: Vec<f32>) -> Result<Vec<(String, Tensor)>> {
    Ok(vec![(first_name(model), Tensor::f32(shape, values)?)])
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
