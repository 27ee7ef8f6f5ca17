//! Loss and accuracy over the epochs, as numbers and as a picture.

use bms_wire::{Code, Error, Result};
use plotters::coord::Shift;
use plotters::prelude::{
    BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, PathElement, RGBColor,
    SVGBackend, SeriesLabelPosition, WHITE,
};
use serde::{Deserialize, Serialize};

/// One epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// From 1.
    pub epoch: usize,
    /// Learning rate of its last step.
    pub learning_rate: f32,
    /// Mean loss over the epoch's training batches, as trained (augmented, smoothed).
    pub train_loss: f32,
    /// Accuracy over the epoch's training batches, 0 to 1.
    pub train_accuracy: f32,
    /// Loss on the validation data, when there is some.
    pub validation_loss: Option<f32>,
    /// Accuracy on the validation data, 0 to 1.
    pub validation_accuracy: Option<f32>,
}

/// The course of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curves {
    /// The epochs in order.
    pub points: Vec<Point>,
}

/// Size of the picture.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 400;
const TRAIN_COLOUR: RGBColor = RGBColor(31, 119, 180);
const VALIDATION_COLOUR: RGBColor = RGBColor(214, 96, 20);

/// One line of a chart: name, colour, `(epoch, value)`.
type Series<'a> = (&'a str, RGBColor, Vec<(f32, f32)>);

impl Curves {
    /// The file `curves.json`.
    pub fn to_json(&self) -> Result<Vec<u8>> {
        let failed = |e| Error::new(Code::Internal, "failed to write the curves").because(e);
        let mut bytes = serde_json::to_vec_pretty(self).map_err(failed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Loss and accuracy side by side, as SVG.
    pub fn to_svg(&self) -> Result<String> {
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            area.fill(&WHITE).map_err(drawing)?;
            let (left, right) = area.split_horizontally(WIDTH / 2);
            // Losses fall and accuracies rise: each legend lies where its curves do not end.
            let losses = self.series(|p| p.train_loss, |p| p.validation_loss);
            chart(&left, "loss", &losses, SeriesLabelPosition::UpperRight)?;
            let accuracies = self.series(|p| p.train_accuracy, |p| p.validation_accuracy);
            chart(&right, "accuracy", &accuracies, SeriesLabelPosition::LowerRight)?;
            area.present().map_err(drawing)?;
        }
        Ok(svg)
    }

    fn series(
        &self,
        train: fn(&Point) -> f32,
        validation: fn(&Point) -> Option<f32>,
    ) -> Vec<Series<'static>> {
        let at = |point: &Point, value| (point.epoch as f32, value);
        let train = self.points.iter().map(|p| at(p, train(p))).collect();
        let checked: Vec<_> = self.points.iter().filter_map(|p| validation(p).map(|v| at(p, v))).collect();
        let mut all = vec![("train", TRAIN_COLOUR, train)];
        if !checked.is_empty() {
            all.push(("validation", VALIDATION_COLOUR, checked));
        }
        all
    }
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    title: &str,
    series: &[Series<'_>],
    legend: SeriesLabelPosition,
) -> Result<()> {
    let values = || series.iter().flat_map(|(_, _, line)| line.iter().copied());
    let epochs = values().fold(1.0_f32, |most, (epoch, _)| most.max(epoch));
    let low = values().fold(f32::INFINITY, |low, (_, value)| low.min(value));
    let high = values().fold(f32::NEG_INFINITY, |high, (_, value)| high.max(value));
    // Without a spread there is nothing to scale by; the line then lies in the middle.
    let (low, high) = if low < high { (low, high) } else { (low.min(1.0) - 0.5, low.min(1.0) + 0.5) };
    let margin = (high - low) * 0.05;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18).into_font())
        .margin(12)
        .x_label_area_size(32)
        .y_label_area_size(48)
        .build_cartesian_2d(1.0_f32..epochs.max(1.5), low - margin..high + margin)
        .map_err(drawing)?;
    chart
        .configure_mesh()
        .x_desc("epoch")
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .light_line_style(WHITE)
        .draw()
        .map_err(drawing)?;
    for (name, colour, line) in series {
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(line.iter().copied(), colour.stroke_width(2)).point_size(2))
            .map_err(drawing)?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(legend)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()
        .map_err(drawing)
}

/// A failure of the plotting library, as text: its error borrows the drawing.
pub(crate) fn drawing(e: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("failed to draw: {e}"))
}

#[cfg(test)]
mod tests;
