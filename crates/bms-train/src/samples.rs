//! Data sets as the network sees them: the pipeline is fitted to the training data, then applied.

use bms_data::augment::{self, Plan};
use bms_data::{Dataset, ImageSet, TableSet, preprocess_image, preprocess_row};
use bms_wire::{Code, Error, ImageInput, Pipeline, Postprocess, Preprocess, Result, TableInput};

use crate::fit::Source;
use crate::network::design::InputShape;
use crate::options::TrainOptions;

/// A data set behind its pipeline.
pub(crate) struct Samples<'a> {
    data: &'a Dataset,
    preprocess: &'a Preprocess,
    augment: Option<&'a Plan>,
    /// The data set's labels as positions among the pipeline's.
    label_map: Vec<usize>,
}

impl<'a> Samples<'a> {
    /// `data` through `pipeline`; pictures augmented by `augment` when an epoch is given to `fill`.
    ///
    /// # Errors
    /// `InvalidInput` when the data set is empty or its kind, labels or columns are not the pipeline's.
    pub(crate) fn new(
        data: &'a Dataset,
        pipeline: &'a Pipeline,
        augment: Option<&'a Plan>,
    ) -> Result<Samples<'a>> {
        check_kind(data, &pipeline.preprocess)?;
        let label_map = label_map(data, labels(pipeline)?)?;
        Ok(Samples { data, preprocess: &pipeline.preprocess, augment, label_map })
    }
}

impl Source for Samples<'_> {
    fn len(&self) -> usize {
        self.data.len()
    }

    fn label(&self, idx: usize) -> usize {
        self.label_map[self.data.target(idx)]
    }

    fn fill(&self, idx: usize, draw: Option<(u64, usize)>, out: &mut Vec<f32>) -> Result<()> {
        match (self.data, self.preprocess) {
            (Dataset::Images(set), Preprocess::Image(input)) => {
                let sample = &set.samples[idx];
                let values = match (self.augment, draw) {
                    (Some(plan), Some((seed, epoch))) => {
                        let image = augment::draw(plan, &sample.image, seed, &sample.name, epoch as u64);
                        preprocess_image(input, &image)?
                    }
                    _ => preprocess_image(input, &sample.image)?,
                };
                out.extend(values);
            }
            (Dataset::Table(set), Preprocess::Table(input)) => {
                let width = set.columns.len();
                out.extend(preprocess_row(input, &set.rows[idx * width..][..width])?);
            }
            _ => return Err(mismatch()),
        }
        Ok(())
    }
}

fn mismatch() -> Error {
    Error::new(Code::InvalidInput, "the data set does not fit the model's pipeline")
        .hint("A model of pictures needs a folder of pictures, a model of rows a table.")
}

/// The labels of a pipeline that classifies.
pub(crate) fn labels(pipeline: &Pipeline) -> Result<&[String]> {
    match &pipeline.postprocess {
        Postprocess::Classify { labels } => Ok(labels),
        Postprocess::Labels(output) => Ok(&output.labels),
        _ => Err(Error::new(Code::InvalidInput, "the model is not a classifier")),
    }
}

/// Where each label of `data` lies among `labels`. A data set may lack some of the model's labels.
///
/// # Errors
/// `InvalidInput` when the data set is empty or has a label the model does not know.
pub(crate) fn label_map(data: &Dataset, labels: &[String]) -> Result<Vec<usize>> {
    if data.is_empty() {
        return Err(Error::new(Code::InvalidInput, "the data set is empty"));
    }
    let position = |name: &String| {
        labels.iter().position(|label| label == name).ok_or_else(|| {
            Error::new(
                Code::InvalidInput,
                format!("the data set has the label `{name}`, which the model does not know"),
            )
            .hint(format!("The model's labels are: {}.", labels.join(", ")))
        })
    };
    data.labels().iter().map(position).collect()
}

fn check_kind(data: &Dataset, preprocess: &Preprocess) -> Result<()> {
    match (data, preprocess) {
        (Dataset::Images(_), Preprocess::Image(_)) => Ok(()),
        (Dataset::Table(set), Preprocess::Table(input)) if set.columns == input.columns => Ok(()),
        (Dataset::Table(set), Preprocess::Table(input)) => {
            let message =
                format!("the table has the columns {:?}, the model {:?}", set.columns, input.columns);
            Err(Error::new(Code::InvalidInput, message))
        }
        _ => Err(mismatch()),
    }
}

/// The pipeline for training on `data`: sizes and labels from it, mean and deviation measured on it.
pub(crate) fn fit_pipeline(data: &Dataset, options: &TrainOptions<'_>) -> Result<Pipeline> {
    if data.is_empty() {
        return Err(Error::new(Code::InvalidInput, "the training data is empty"));
    }
    if data.labels().len() < 2 {
        return Err(Error::new(Code::InvalidInput, "the training data has fewer than two labels"));
    }
    let preprocess = match data {
        Dataset::Images(set) => Preprocess::Image(fit_pictures(set, options.picture_size)?),
        Dataset::Table(_) if options.augment.is_some() => {
            return Err(Error::new(Code::InvalidRequest, "a table cannot be augmented")
                .hint("Leave the augmentation out; it is for pictures."));
        }
        Dataset::Table(set) => Preprocess::Table(fit_columns(set)?),
    };
    Ok(Pipeline { preprocess, postprocess: Postprocess::Classify { labels: data.labels().to_vec() } })
}

/// Shape of one sample after preprocessing.
pub(crate) fn input_shape(pipeline: &Pipeline) -> Result<InputShape> {
    match &pipeline.preprocess {
        Preprocess::Image(input) => Ok(InputShape::Picture {
            channels: input.channels(),
            height: input.height as usize,
            width: input.width as usize,
        }),
        Preprocess::Table(input) => Ok(InputShape::Row { columns: input.columns.len() }),
        _ => Err(mismatch()),
    }
}

/// Longest side a picture keeps when the caller does not say a size.
const SIDE_MAX: u32 = 224;

fn fit_pictures(set: &ImageSet, size: Option<(u32, u32)>) -> Result<ImageInput> {
    let first = &set.samples[0].image;
    let (width, height) = match size {
        Some((0, _)) | Some((_, 0)) => {
            return Err(Error::new(Code::InvalidRequest, "the picture size must be at least 1 by 1"));
        }
        Some(size) => size,
        None => {
            let longer = first.width.max(first.height);
            let scaled = |side: u32| match SIDE_MAX < longer {
                true => ((u64::from(side) * u64::from(SIDE_MAX)).div_ceil(u64::from(longer)) as u32).max(1),
                false => side,
            };
            (scaled(first.width), scaled(first.height))
        }
    };
    let channels = if set.samples.iter().all(|sample| sample.image.channels == 1) { 1 } else { 3 };
    let plain = ImageInput { width, height, mean: vec![0.0; channels], std: vec![1.0; channels] };
    let mut moments = vec![Moments::default(); channels];
    for sample in &set.samples {
        let values = preprocess_image(&plain, &sample.image)?;
        let plane = values.len() / channels;
        for (moments, values) in moments.iter_mut().zip(values.chunks_exact(plane)) {
            values.iter().for_each(|&value| moments.add(value));
        }
    }
    let (mean, std) = moments.iter().map(Moments::mean_std).unzip();
    Ok(ImageInput { width, height, mean, std })
}

fn fit_columns(set: &TableSet) -> Result<TableInput> {
    let width = set.columns.len();
    let mut moments = vec![Moments::default(); width];
    for (row_idx, row) in set.rows.chunks_exact(width).enumerate() {
        for ((&value, column), moments) in row.iter().zip(&set.columns).zip(&mut moments) {
            if !value.is_finite() {
                let message = format!("row {} has {value} in column `{column}`", row_idx + 1);
                return Err(Error::new(Code::InvalidInput, message).hint("Remove or fill in missing values."));
            }
            moments.add(value);
        }
    }
    let (mean, std) = moments.iter().map(Moments::mean_std).unzip();
    Ok(TableInput { columns: set.columns.clone(), mean, std })
}

/// Running mean and variance (Welford 1962), stable where the mean is large against the deviation.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f32) {
        let value = f64::from(value);
        self.count += 1.0;
        let delta = value - self.mean;
        self.mean += delta / self.count;
        self.squares += delta * (value - self.mean);
    }

    /// Mean and deviation; a deviation of 1 where the values do not differ.
    fn mean_std(&self) -> (f32, f32) {
        let std = (self.squares / self.count).sqrt() as f32;
        let usable = f32::EPSILON * self.mean.abs() as f32 + f32::MIN_POSITIVE < std;
        (self.mean as f32, if usable { std } else { 1.0 })
    }
}

#[cfg(test)]
mod tests;
