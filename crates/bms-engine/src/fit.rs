//! Whether a pipeline fits its graph: names, types and lengths, as far as the graph says them.

use bms_nn::DType;
use bms_nn::onnx::ValueSpec;
use bms_wire::{
    AudioInput, BoxLayout, BoxesOutput, Code, Error, LineOutput, PictureInput, Pipeline, Pooled, Postprocess,
    Preprocess, Recogniser, Result, TextInput,
};

fn refuse<T>(what: String) -> Result<T> {
    Err(Error::new(Code::InvalidBundle, what)
        .hint("Correct the pipeline to what the graph takes and gives, and package the model again."))
}

/// Lengths of one row as a pipeline makes it; `None` when they depend on the request.
pub(crate) fn row_shape(pipeline: &Pipeline) -> Option<Vec<usize>> {
    match &pipeline.preprocess {
        Preprocess::Tensor {} | Preprocess::Text(_) | Preprocess::Audio(_) => None,
        Preprocess::Picture(picture) => picture.row_shape(),
        Preprocess::Bytes(bytes) => Some(vec![bytes.head + bytes.tail]),
        Preprocess::Image(image) => Some(vec![image.channels(), image.height as usize, image.width as usize]),
        Preprocess::Table(table) => Some(vec![table.columns.len()]),
    }
}

/// Checks a pipeline against what its graph takes and gives.
///
/// # Errors
/// [`Code::InvalidBundle`] with what does not fit.
pub fn check(pipeline: &Pipeline, inputs: &[ValueSpec], outputs: &[ValueSpec]) -> Result<()> {
    if outputs.is_empty() {
        return refuse("the graph has no outputs".to_owned());
    }
    match &pipeline.preprocess {
        Preprocess::Tensor {} => {}
        Preprocess::Image(_) | Preprocess::Table(_) => check_row(pipeline, inputs, DType::F32)?,
        Preprocess::Bytes(_) => check_row(pipeline, inputs, DType::I32)?,
        Preprocess::Picture(picture) => check_picture(picture, inputs)?,
        Preprocess::Text(text) => check_text(text, inputs)?,
        Preprocess::Audio(audio) => check_audio(audio, inputs, outputs)?,
    }
    match &pipeline.postprocess {
        Postprocess::Tensor {} | Postprocess::Speech(_) => Ok(()),
        Postprocess::Classify { labels } => check_labels(labels.len(), outputs),
        Postprocess::Labels(output) => check_labels(output.labels.len(), outputs),
        Postprocess::Vector(output) => match output.pooling {
            Pooled::None => check_axes("a vector a row", outputs, &[None, None]),
            Pooled::Mean | Pooled::First => check_axes("hidden states", outputs, &[None, None, None]),
        },
        Postprocess::Boxes(output) => check_boxes(output, outputs),
        Postprocess::Line(output) => check_line(output, outputs),
        Postprocess::Lines(_) => check_axes("a map of text", outputs, &[None, Some(1), None, None]),
    }
}

/// Checks a pipeline's second graph.
///
/// # Errors
/// [`Code::InvalidBundle`] with what does not fit.
pub fn check_recogniser(recogniser: &Recogniser, inputs: &[ValueSpec], outputs: &[ValueSpec]) -> Result<()> {
    check_picture(&recogniser.picture, inputs)
        .and_then(|()| check_line(&recogniser.line, outputs))
        .map_err(|e| e.while_doing(format!("fit `{}` to the pipeline", recogniser.model)))
}

/// A pipeline whose rows are all alike needs one input.
fn check_row(pipeline: &Pipeline, inputs: &[ValueSpec], dtype: DType) -> Result<()> {
    let Some(width) = row_shape(pipeline) else { return Ok(()) };
    let [input] = inputs else {
        return refuse(format!("the pipeline feeds one input, the graph has {}", inputs.len()));
    };
    let want: Vec<_> = [None].into_iter().chain(width.iter().copied().map(Some)).collect();
    if input.dtype != dtype || !fits(input, &want) {
        return refuse(format!("the pipeline makes {dtype} [?, {width:?}], the graph takes {input}"));
    }
    Ok(())
}

/// Whether a value has these axes, where both say so.
fn fits(spec: &ValueSpec, want: &[Option<usize>]) -> bool {
    let same = |(have, want): (&Option<usize>, &Option<usize>)| {
        have.is_none_or(|have| want.is_none_or(|want| have == want))
    };
    !spec.ranked || (spec.shape.len() == want.len() && spec.shape.iter().zip(want).all(same))
}

/// Checks that a graph takes the pictures a pipeline makes.
fn check_picture(picture: &PictureInput, inputs: &[ValueSpec]) -> Result<()> {
    let [input] = inputs else {
        return refuse(format!("the pipeline feeds one input, the graph has {}", inputs.len()));
    };
    let (width, height) = picture.size().unzip();
    let lengths = picture.shape(width.unwrap_or(0) as usize, height.unwrap_or(0) as usize);
    // Zero stands for a side that depends on the picture.
    let row = lengths.into_iter().map(|length| Some(length).filter(|&n| n != 0));
    let want: Vec<_> = [None].into_iter().chain(row).collect();
    if input.dtype != DType::F32 || !fits(input, &want) {
        return refuse(format!(
            "the pipeline makes f32 {want:?}, where any length is `None`, the graph takes {input}"
        ));
    }
    Ok(())
}

fn check_text(text: &TextInput, inputs: &[ValueSpec]) -> Result<()> {
    let names = [Some(&text.ids), text.mask.as_ref(), text.types.as_ref()];
    let names: Vec<&String> = names.into_iter().flatten().collect();
    check_names(&names, inputs)?;
    for input in inputs {
        if !matches!(input.dtype, DType::I64 | DType::I32) || !fits(input, &[None, None]) {
            return refuse(format!("the pipeline makes integers [texts, tokens], the graph takes {input}"));
        }
    }
    Ok(())
}

/// The graph's inputs are these and no others.
fn check_names(names: &[&String], inputs: &[ValueSpec]) -> Result<()> {
    if let Some(name) = names.iter().find(|name| !inputs.iter().any(|spec| spec.name == ***name)) {
        return refuse(format!("the pipeline feeds `{name}`, which is no input of the graph"));
    }
    match inputs.iter().find(|spec| !names.contains(&&spec.name)) {
        Some(spec) => refuse(format!("the pipeline does not feed the graph's input {spec}")),
        None => Ok(()),
    }
}

fn check_audio(audio: &AudioInput, inputs: &[ValueSpec], outputs: &[ValueSpec]) -> Result<()> {
    let states = audio.state.iter().map(|state| &state.input);
    let names: Vec<&String> = [&audio.samples].into_iter().chain(&audio.rate).chain(states).collect();
    check_names(&names, inputs)?;
    let state = |name: &str| audio.state.iter().find(|state| state.input == name);
    for input in inputs {
        let (dtype, want): (_, Vec<_>) = match state(&input.name) {
            Some(state) => (DType::F32, state.shape.iter().copied().map(Some).collect()),
            None if input.name == audio.samples => {
                (DType::F32, vec![Some(1), Some(audio.context + audio.window)])
            }
            None => (DType::I64, Vec::new()),
        };
        if input.dtype != dtype || !fits(input, &want) {
            return refuse(format!("the pipeline makes {dtype} {want:?}, the graph takes {input}"));
        }
    }
    if let Some(state) = audio.state.iter().find(|s| !outputs.iter().any(|spec| spec.name == s.output)) {
        return refuse(format!("the state comes from `{}`, which is no output of the graph", state.output));
    }
    let is_state = |spec: &&ValueSpec| audio.state.iter().any(|state| state.output == spec.name);
    match outputs.iter().filter(|spec| !is_state(spec)).count() {
        1 => Ok(()),
        n => refuse(format!("the graph has {n} outputs that are no state, the pipeline reads one")),
    }
}

fn check_labels(labels: usize, outputs: &[ValueSpec]) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    if first.ranked && first.shape.len() != 2 {
        return refuse(format!("labels need logits of the shape [rows, {labels}], the graph gives {first}"));
    }
    if first.shape.last().copied().flatten().is_some_and(|n| n != labels) {
        return refuse(format!("there are {labels} labels, the graph gives {first}"));
    }
    Ok(())
}

fn check_axes(what: &str, outputs: &[ValueSpec], want: &[Option<usize>]) -> Result<()> {
    match outputs.first() {
        Some(first) if first.dtype != DType::F32 || !fits(first, want) => {
            refuse(format!("{what} needs f32 {want:?}, where any length is `None`, the graph gives {first}"))
        }
        _ => Ok(()),
    }
}

fn check_boxes(output: &BoxesOutput, outputs: &[ValueSpec]) -> Result<()> {
    let classes = output.labels.len();
    let want = match output.layout {
        BoxLayout::YoloV8 => [None, Some(4 + classes), None],
        BoxLayout::YoloV5 => [None, None, Some(5 + classes)],
        BoxLayout::Corners => [None, None, Some(6)],
    };
    check_axes(&format!("boxes of {classes} labels"), outputs, &want)
}

/// Checks that a graph gives the characters a pipeline names.
fn check_line(output: &LineOutput, outputs: &[ValueSpec]) -> Result<()> {
    let characters = output.characters.len();
    check_axes(&format!("a text of {characters} characters"), outputs, &[None, None, Some(characters + 1)])
}
