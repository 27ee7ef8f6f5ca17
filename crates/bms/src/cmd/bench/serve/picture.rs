//! The latencies and the course of the measurement as a picture.

use bms_wire::{Code, Error, Result};
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, IntoLogRange, LineSeries, RGBColor,
    Rectangle, SVGBackend, WHITE,
};

use super::tally::Tally;

/// Size of the picture.
const WIDTH: u32 = 960;
const HEIGHT: u32 = 640;
const ANSWERS: RGBColor = RGBColor(31, 119, 180);
const OTHERS: RGBColor = RGBColor(214, 96, 20);

/// How often answers took how long, above; answers a second and what was refused or failed, below. SVG.
///
/// # Errors
/// [`Code::Internal`] when the plotting library fails.
pub(super) fn draw(tally: &Tally) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let (above, below) = area.split_vertically(HEIGHT / 2);
        latencies(&above, tally)?;
        course(&below, tally)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn latencies(area: &DrawingArea<SVGBackend<'_>, Shift>, tally: &Tally) -> Result<()> {
    let classes: Vec<(f64, u64)> = tally.latency.classes().collect();
    let most = classes.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let low = classes.first().map_or(0.1, |(upper, _)| upper / 2.0).max(1e-4);
    let high = classes.last().map_or(1.0, |(upper, _)| upper * 1.3).max(low * 10.0);
    let title = match tally.latency.is_empty() {
        true => "no answers".to_owned(),
        false => format!(
            "time of answers: median {:.3} ms, 99 of 100 within {:.3} ms",
            tally.latency.percentile(50.0),
            tally.latency.percentile(99.0)
        ),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18).into_font())
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d((low..high).log_scale(), 0u64..most + most / 20 + 1)
        .map_err(failed)?;
    let label = |milliseconds: &f64| format!("{milliseconds}");
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("milliseconds").y_desc("answers").x_label_formatter(&label).light_line_style(WHITE);
    mesh.draw().map_err(failed)?;
    // A class begins where the one below it would end: there are ten for each factor of ten.
    let bar = |(upper, count): (f64, u64)| {
        Rectangle::new([((upper / 10f64.powf(0.1)).max(low), 0), (upper, count)], ANSWERS.mix(0.8).filled())
    };
    chart.draw_series(classes.into_iter().map(bar)).map_err(failed)?;
    Ok(())
}

fn course(area: &DrawingArea<SVGBackend<'_>, Shift>, tally: &Tally) -> Result<()> {
    let others = |second: &super::tally::Second| second.refused + second.failed;
    // The second in which it ended was not a whole one.
    let whole =
        usize::try_from(tally.took.as_secs()).unwrap_or(usize::MAX).clamp(1, tally.course.len().max(1));
    let course = || tally.course.iter().take(whole);
    let most = course().map(|second| second.answered.max(others(second))).max().unwrap_or(1);
    let seconds = whole as f64;
    let mut chart = ChartBuilder::on(area)
        .caption("each second: answers (blue), refused or failed (orange)", ("sans-serif", 18).into_font())
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..seconds, 0u64..most + most / 20 + 1)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .x_desc("seconds")
        .y_desc("a second")
        .light_line_style(WHITE)
        .draw()
        .map_err(failed)?;
    let line = |of: &dyn Fn(&super::tally::Second) -> u64| -> Vec<(f64, u64)> {
        course().enumerate().map(|(at, second)| (at as f64 + 0.5, of(second))).collect()
    };
    let answered = line(&|second| second.answered);
    chart.draw_series(LineSeries::new(answered, ANSWERS.stroke_width(2))).map_err(failed)?;
    chart.draw_series(LineSeries::new(line(&others), OTHERS.stroke_width(2))).map_err(failed)?;
    Ok(())
}

/// A failure of the plotting library, as text: its error borrows the drawing.
fn failed(e: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("failed to draw: {e}"))
}
