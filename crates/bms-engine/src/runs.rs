//! Pipelines that run graphs several times for one input: regions of text, each of which a second graph reads, and
//! recordings, which a graph hears window by window. They run on the caller's thread and ask the batchers, so that other
//! requests come in between.

use bms_data::{Image, cut_out, prepare_picture};
use bms_nn::{Data, Tensor};
use bms_wire::{
    AudioInput, Code, Error, FoundLine, LinesOutput, Outcome, Postprocess, Preprocess, Result, SpeechOutput,
    limits,
};

use crate::Priority;
use crate::answer::Answer;
use crate::engine::Engine;
use crate::input::{Input, recording};
use crate::parts::Recogniser;
use crate::post::{line, regions, speech};

/// Answers; `None` when `wanted` says meanwhile that nobody waits any more.
///
/// # Errors
/// As for an input that takes one run.
pub(crate) fn answer(
    engine: &Engine,
    input: Input,
    priority: Priority,
    wanted: &dyn Fn() -> bool,
) -> Result<Option<Answer>> {
    if input.rows() == 0 {
        return Err(Error::new(Code::InvalidInput, "the request holds no rows"));
    }
    let pipeline = &engine.description.pipeline;
    let mut found = Vec::new();
    let run = Runs { engine, priority, wanted };
    match (input, &pipeline.preprocess, &pipeline.postprocess) {
        (Input::Images(pictures), Preprocess::Picture(_), Postprocess::Lines(output)) => {
            for (index, picture) in pictures.iter().enumerate() {
                let lines = run.lines(output, picture);
                let Some(lines) = lines.map_err(|e| e.while_doing(format!("read picture {index}")))? else {
                    return Ok(None);
                };
                found.push(lines);
            }
        }
        (Input::Files(files), Preprocess::Audio(audio), Postprocess::Speech(output)) => {
            for (index, file) in files.iter().enumerate() {
                let speech = run.speech(audio, output, file);
                let Some(speech) = speech.map_err(|e| e.while_doing(format!("hear recording {index}")))?
                else {
                    return Ok(None);
                };
                found.push(speech);
            }
        }
        _ => return Err(Error::new(Code::Internal, "the pipeline takes one run")),
    }
    Ok(Some(Answer { outputs: Vec::new(), classes: None, found: Some(found) }))
}

/// One request.
struct Runs<'a> {
    engine: &'a Engine,
    priority: Priority,
    wanted: &'a dyn Fn() -> bool,
}

impl Runs<'_> {
    /// The lines of text in one picture.
    fn lines(&self, output: &LinesOutput, picture: &[u8]) -> Result<Option<Outcome>> {
        let Preprocess::Picture(input) = &self.engine.description.pipeline.preprocess else {
            return Err(Error::new(Code::Internal, "lines are of pictures"));
        };
        let missing = || Error::new(Code::Internal, "the pipeline has no second graph");
        let recogniser = self.engine.parts.recogniser.as_ref().ok_or_else(missing)?;
        let image = Image::decode(picture)?;
        let prepared = prepare_picture(input, &image)?;
        let name = self.engine.description.inputs.first().map(|spec| spec.name.clone()).unwrap_or_default();
        let tensor = Tensor::f32([&[1], &prepared.shape[..]].concat(), prepared.values)?;
        let outputs = self.engine.batcher.ask(vec![(name, tensor)], 1, self.priority)?;
        let map = outputs.first().map(|(_, tensor)| tensor);
        let broken = || Error::new(Code::Internal, "the graph gave no map of text");
        let map = map
            .filter(|map| matches!(map.shape(), [1, 1, _, width] if 0 < *width) && map.is_finite())
            .ok_or_else(broken)?;
        let width = map.shape()[3];
        let values = map.as_f32().ok_or_else(broken)?;
        let mut lines = Vec::new();
        for corners in regions::find(output, values, width, &prepared.frame) {
            if !(self.wanted)() {
                return Ok(None);
            }
            let (text, score) = self.line(output, recogniser, &cut_out(&image, &corners)?)?;
            if output.recognise.score_min <= score && !text.trim().is_empty() {
                lines.push(FoundLine { text, score, corners });
            }
        }
        let text = lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n");
        Ok(Some(Outcome::Lines { width: image.width, height: image.height, text, lines }))
    }

    /// What a region says.
    fn line(&self, output: &LinesOutput, recogniser: &Recogniser, region: &Image) -> Result<(String, f32)> {
        let prepared = prepare_picture(&output.recognise.picture, region)?;
        let tensor = Tensor::f32([&[1], &prepared.shape[..]].concat(), prepared.values)?;
        let outputs = recogniser.batcher.ask(vec![(recogniser.input.clone(), tensor)], 1, self.priority)?;
        let broken = || Error::new(Code::Internal, "the second graph gave no line of text");
        let (_, tensor) = outputs.first().ok_or_else(broken)?;
        match line::read(&output.recognise.line, tensor)?.pop() {
            Some(Outcome::Line { text, score }) => Ok((text, score)),
            _ => Err(broken()),
        }
    }

    /// When somebody speaks in one recording.
    fn speech(&self, audio: &AudioInput, output: &SpeechOutput, file: &[u8]) -> Result<Option<Outcome>> {
        let samples = recording::samples(audio, file)?;
        let windows = samples.len().div_ceil(audio.window);
        if limits::AUDIO_WINDOWS_MAX < windows {
            return Err(Error::new(Code::TooLarge, format!("the recording has {windows} windows"))
                .hint(format!("At most {} are heard in one request.", limits::AUDIO_WINDOWS_MAX)));
        }
        let mut probabilities = Vec::with_capacity(windows);
        let zero = |shape: &Vec<usize>| Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]);
        let mut states = audio.state.iter().map(|state| zero(&state.shape)).collect::<Result<Vec<_>>>()?;
        // Silence before the first sample and after the last.
        let mut heard = vec![0.0; audio.context + audio.window];
        for window in samples.chunks(audio.window) {
            if !(self.wanted)() {
                return Ok(None);
            }
            let length = heard.len();
            heard.copy_within(length - audio.context.., 0);
            heard[audio.context..].fill(0.0);
            heard[audio.context..audio.context + window.len()].copy_from_slice(window);
            let (probability, next) = self.hear(audio, &heard, states)?;
            probabilities.push(probability);
            states = next;
        }
        let seconds = |samples: usize| samples as f64 / f64::from(audio.sample_rate);
        Ok(Some(Outcome::Speech {
            seconds: seconds(samples.len()),
            window_seconds: seconds(audio.window),
            segments: speech::segments(output, audio, &probabilities, samples.len()),
            probabilities,
        }))
    }

    /// One window: the probability, and what the graph remembers.
    fn hear(&self, audio: &AudioInput, heard: &[f32], states: Vec<Tensor>) -> Result<(f32, Vec<Tensor>)> {
        let mut inputs = vec![(audio.samples.clone(), Tensor::f32(vec![1, heard.len()], heard.to_vec())?)];
        if let Some(name) = &audio.rate {
            let rate = Tensor::new(Vec::new(), Data::I64(vec![i64::from(audio.sample_rate)]))?;
            inputs.push((name.clone(), rate));
        }
        inputs.extend(audio.state.iter().map(|state| state.input.clone()).zip(states));
        let mut outputs = self.engine.batcher.ask(inputs, 1, self.priority)?;
        let broken =
            |what: &str| Error::new(Code::Internal, format!("the graph's output `{what}` cannot be used"));
        let mut take = |name: &str| -> Result<Tensor> {
            let at = outputs.iter().position(|(output, _)| output == name).ok_or_else(|| broken(name))?;
            Ok(outputs.swap_remove(at).1)
        };
        let states = audio.state.iter().map(|state| take(&state.output)).collect::<Result<Vec<_>>>()?;
        let [(name, tensor)] = &outputs[..] else { return Err(broken("of speech")) };
        match tensor.as_f32() {
            Some(&[probability]) if probability.is_finite() => Ok((probability, states)),
            _ => Err(broken(name)),
        }
    }
}
