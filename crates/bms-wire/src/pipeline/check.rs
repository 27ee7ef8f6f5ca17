//! Whether a pipeline can be what it says: everything that can be checked without the graph.

use super::{
    AudioInput, BoxesOutput, BytesInput, LineOutput, LinesOutput, PictureInput, PictureStep, Pipeline,
    Postprocess, Preprocess, SpeechOutput, TextInput,
};
use crate::{Code, Error, Result, limits};

impl Pipeline {
    /// Checks the parameters, and that what comes before the graph fits what comes after it.
    ///
    /// # Errors
    /// [`Code::InvalidBundle`] with the first thing that is wrong.
    pub fn check(&self) -> Result<()> {
        match &self.preprocess {
            // Checked where they were before there were others.
            Preprocess::Image(_) | Preprocess::Table(_) | Preprocess::Tensor {} => {}
            Preprocess::Picture(picture) => check_picture(picture)?,
            Preprocess::Text(text) => check_text(text)?,
            Preprocess::Bytes(bytes) => check_bytes(bytes)?,
            Preprocess::Audio(audio) => check_audio(audio)?,
        }
        match &self.postprocess {
            Postprocess::Classify { .. } | Postprocess::Tensor {} | Postprocess::Vector(_) => {}
            Postprocess::Labels(output) => {
                check_names("labels", &output.labels)?;
                let top = output.top.unwrap_or(1);
                ensure((1..=output.labels.len()).contains(&top), || {
                    format!("top {top} of {} labels", output.labels.len())
                })?;
            }
            Postprocess::Boxes(boxes) => check_boxes(boxes)?,
            Postprocess::Line(line) => check_line(line)?,
            Postprocess::Lines(lines) => check_lines(lines)?,
            Postprocess::Speech(speech) => check_speech(speech)?,
        }
        self.check_fit()
    }

    /// A map of text needs a picture, a vector of tokens a text.
    fn check_fit(&self) -> Result<()> {
        use Postprocess as Post;
        use Preprocess as Pre;
        let fits = match (&self.preprocess, &self.postprocess) {
            (Pre::Audio(_), Post::Speech(_)) => true,
            (Pre::Audio(_), _) | (_, Post::Speech(_)) => false,
            (Pre::Picture(_), Post::Boxes(_) | Post::Line(_) | Post::Lines(_)) => true,
            (_, Post::Boxes(_) | Post::Line(_) | Post::Lines(_)) => false,
            (Pre::Text(_), Post::Vector(_)) => true,
            (Pre::Picture(_), Post::Vector(vector)) => vector.pooling == super::Pooled::None,
            (_, Post::Vector(_)) => false,
            _ => true,
        };
        ensure(fits, || "what comes before the graph does not fit what comes after it".to_owned())
    }
}

fn check_picture(picture: &PictureInput) -> Result<()> {
    let channels = picture.colour.channels();
    let lengths = [picture.mean.len(), picture.std.len()];
    ensure(lengths.iter().all(|&n| n == 0 || n == channels), || {
        format!("{channels} channels come with {} means and {} standard deviations", lengths[0], lengths[1])
    })?;
    let scaled = picture.mean.iter().all(|m| m.is_finite())
        && picture.std.iter().chain([&picture.divisor]).all(|s| s.is_finite() && 0.0 < *s);
    ensure(scaled, || "means must be finite, standard deviations and the divisor above zero".to_owned())?;
    ensure(picture.steps.len() <= limits::PIPELINE_STEPS_MAX, || {
        format!("{} steps, at most {}", picture.steps.len(), limits::PIPELINE_STEPS_MAX)
    })?;
    for (index, step) in picture.steps.iter().enumerate() {
        check_step(step, index + 1 == picture.steps.len())?;
    }
    Ok(())
}

fn check_step(step: &PictureStep, is_last: bool) -> Result<()> {
    let side = |n: u32| {
        ensure((1..=limits::IMAGE_SIDE_MAX).contains(&n), || format!("a step makes a side of {n} pixels"))
    };
    match *step {
        PictureStep::Resize { width, height, .. }
        | PictureStep::CenterCrop { width, height }
        | PictureStep::Letterbox { width, height, .. } => {
            side(width)?;
            side(height)?;
            let pixels = u64::from(width) * u64::from(height);
            ensure(pixels <= limits::IMAGE_PIXELS_MAX, || format!("a step makes {width}x{height} pixels"))
        }
        PictureStep::ResizeShorter { pixels, .. } => side(pixels),
        PictureStep::ResizeWithin { longest, multiple, .. } => {
            side(longest)?;
            side(multiple)?;
            ensure(multiple <= longest, || format!("sides up to {longest} that are multiples of {multiple}"))
        }
        PictureStep::ResizeLine { height, width_min, width_max, .. } => {
            side(height)?;
            side(width_min)?;
            side(width_max)?;
            ensure(is_last, || "`resize_line` is not the last step".to_owned())?;
            ensure(width_min <= width_max, || format!("a line of at least {width_min}, at most {width_max}"))
        }
    }
}

fn check_text(text: &TextInput) -> Result<()> {
    ensure((1..=limits::PIPELINE_TOKENS_MAX).contains(&text.tokens_max), || {
        format!("{} tokens, 1 to {} are possible", text.tokens_max, limits::PIPELINE_TOKENS_MAX)
    })?;
    let names = [Some(&text.ids), text.mask.as_ref(), text.types.as_ref()];
    let names: Vec<&String> = names.into_iter().flatten().collect();
    let distinct = names.iter().enumerate().all(|(i, name)| !name.is_empty() && !names[..i].contains(name));
    ensure(distinct, || "the inputs of a text have no or the same names".to_owned())
}

fn check_bytes(bytes: &BytesInput) -> Result<()> {
    let most = limits::PIPELINE_BYTES_MAX;
    let good = 0 < bytes.head + bytes.tail.min(most) && bytes.head <= most && bytes.tail <= most;
    ensure(good, || format!("{} bytes and {}, 1 to {most} are possible", bytes.head, bytes.tail))?;
    ensure(bytes.head.max(bytes.tail) <= bytes.block && bytes.block <= most, || {
        format!("blocks of {} bytes do not hold the features, or are over {most}", bytes.block)
    })
}

fn check_audio(audio: &AudioInput) -> Result<()> {
    ensure((1..=384_000).contains(&audio.sample_rate), || format!("{} samples a second", audio.sample_rate))?;
    ensure((1..=1 << 20).contains(&audio.window) && audio.context <= 1 << 20, || {
        format!("windows of {} samples after {}", audio.window, audio.context)
    })?;
    ensure(audio.state.len() <= limits::PIPELINE_STEPS_MAX, || {
        format!("{} states, at most {}", audio.state.len(), limits::PIPELINE_STEPS_MAX)
    })?;
    for state in &audio.state {
        let count = state.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        ensure(count.is_some_and(|n| (1..=1 << 24).contains(&n)), || {
            format!("the state `{}` has the shape {:?}", state.input, state.shape)
        })?;
    }
    Ok(())
}

fn check_boxes(boxes: &BoxesOutput) -> Result<()> {
    check_names("labels", &boxes.labels)?;
    fraction("score_min", boxes.score_min)?;
    fraction("overlap_max", boxes.overlap_max)?;
    ensure((1..=limits::BOXES_MAX).contains(&boxes.boxes_max), || {
        format!("{} boxes, 1 to {} are possible", boxes.boxes_max, limits::BOXES_MAX)
    })
}

fn check_line(line: &LineOutput) -> Result<()> {
    check_names("characters", &line.characters)
}

fn check_lines(lines: &LinesOutput) -> Result<()> {
    fraction("threshold", lines.threshold)?;
    fraction("region_min", lines.region_min)?;
    ensure(lines.unclip.is_finite() && (0.0..=10.0).contains(&lines.unclip), || {
        format!("unclip is {}, 0 to 10 are possible", lines.unclip)
    })?;
    ensure((1..=limits::REGIONS_MAX).contains(&lines.regions_max), || {
        format!("{} regions, 1 to {} are possible", lines.regions_max, limits::REGIONS_MAX)
    })?;
    fraction("score_min", lines.recognise.score_min)?;
    check_picture(&lines.recognise.picture)?;
    check_line(&lines.recognise.line)
}

fn check_speech(speech: &SpeechOutput) -> Result<()> {
    fraction("threshold", speech.threshold)?;
    let minute = 60_000;
    ensure([speech.speech_ms, speech.silence_ms, speech.pad_ms].iter().all(|&ms| ms <= minute), || {
        format!("a time over {minute} ms")
    })
}

fn check_names(what: &str, names: &[String]) -> Result<()> {
    ensure((1..=limits::PIPELINE_LABELS_MAX).contains(&names.len()), || {
        format!("{} {what}, 1 to {} are possible", names.len(), limits::PIPELINE_LABELS_MAX)
    })?;
    ensure(names.iter().all(|name| !name.is_empty()), || format!("one of the {what} is empty"))
}

fn fraction(what: &str, value: f32) -> Result<()> {
    ensure((0.0..=1.0).contains(&value), || format!("{what} is {value}, 0 to 1 are possible"))
}

fn ensure(good: bool, what: impl FnOnce() -> String) -> Result<()> {
    match good {
        true => Ok(()),
        false => Err(Error::new(Code::InvalidBundle, format!("the pipeline is malformed: {}", what()))
            .hint("Correct the pipeline and package the model again.")),
    }
}

#[cfg(test)]
mod tests;
