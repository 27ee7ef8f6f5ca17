//! Core ML models: protocol buffers whose custom parts name classes of the app that loads them.
//!
//! Field numbers are those of `Model.proto` and `NeuralNetwork.proto` of coremltools.

use crate::Severity;
use crate::scan::context::{Context, quote};
use crate::scan::location;
use crate::scan::protobuf::{Fault, Fields, Value, outline};

/// Models inside pipelines inside pipelines.
const DEPTH_MAX: usize = 8;

/// Whether the fields at the start are those of a model: a version, a description, then one of the kinds of models.
pub(crate) fn is_model(bytes: &[u8]) -> bool {
    let mut fields = outline(bytes);
    let version = matches!(fields.next(), Some((1, 0, [1..=30, ..])));
    let described = matches!(fields.next(), Some((2, 2, _)));
    version
        && described
        && fields.take(3).any(|(number, wire, _)| wire == 2 && (200..=3000).contains(&number))
}

/// Scans a file that [`is_model`].
pub(crate) fn scan(bytes: &[u8], context: &mut Context) {
    if let Err(fault) = model(bytes, 0, context) {
        context.malformed("coreml-malformed", "", format!("the Core ML model is malformed: {fault}"));
    }
}

fn model(bytes: &[u8], depth: usize, context: &mut Context) -> Result<(), Fault> {
    if DEPTH_MAX <= depth {
        context.attack("coreml-nesting", Severity::Medium, "", "pipelines are nested too deeply");
        return Ok(());
    }
    for field in Fields::new(bytes) {
        let (number, Value::Bytes(value)) = field? else { continue };
        match number {
            // Pipelines for classes, numbers and in general; the first two wrap the third.
            200 | 201 => each(value, 1, |pipeline| pipeline_models(pipeline, depth, context))?,
            202 => pipeline_models(value, depth, context)?,
            303 | 403 | 500 => each(value, 1, |layer| network_layer(layer, context))?,
            555 => {
                let message =
                    format!("the model is run by the class {} of whoever loads it", quote(&text(value, 10)));
                context.attack("coreml-custom", Severity::Medium, "", message);
            }
            556 => linked(value, context)?,
            _ => {}
        }
    }
    Ok(())
}

fn pipeline_models(pipeline: &[u8], depth: usize, context: &mut Context) -> Result<(), Fault> {
    each(pipeline, 1, |inner| model(inner, depth + 1, context))
}

fn network_layer(layer: &[u8], context: &mut Context) -> Result<(), Fault> {
    each(layer, 500, |custom| {
        let message = format!("a layer is run by the class {} of whoever loads it", quote(&text(custom, 10)));
        context.attack("coreml-custom", Severity::Medium, "", message);
        Ok(())
    })
}

/// A model that lies in another file: its name and where it is looked for.
fn linked(value: &[u8], context: &mut Context) -> Result<(), Fault> {
    each(value, 1, |file| {
        for number in [1, 2] {
            each(file, number, |parameter| {
                let path = text(parameter, 1);
                if let Some(why) = location::fault(&path) {
                    let message = format!("a model is read from {}, which {why}", quote(&path));
                    context.attack("coreml-path", Severity::High, "", message);
                }
                Ok(())
            })?;
        }
        Ok(())
    })
}

fn each(bytes: &[u8], wanted: u32, mut inner: impl FnMut(&[u8]) -> Result<(), Fault>) -> Result<(), Fault> {
    for field in Fields::new(bytes) {
        if let (number, Value::Bytes(value)) = field?
            && number == wanted
        {
            inner(value)?;
        }
    }
    Ok(())
}

fn text(message: &[u8], wanted: u32) -> String {
    let values = Fields::new(message).flatten().filter_map(|(number, value)| match value {
        Value::Bytes(bytes) if number == wanted => Some(bytes),
        _ => None,
    });
    values.last().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
}
