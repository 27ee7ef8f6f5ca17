//! The courses of simulated load as one picture.

use bms_server::autoscale::simulation::{Course, Point, Scenario};
use bms_wire::{Code, Error, Result};
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries, RGBColor, SVGBackend, WHITE,
};

/// Size of the picture.
const WIDTH: u32 = 1080;
const ROW_HEIGHT: u32 = 210;
const LOAD: RGBColor = RGBColor(120, 120, 120);
const WANTED: RGBColor = RGBColor(214, 96, 20);
const READY: RGBColor = RGBColor(31, 119, 180);
const BOUND: RGBColor = RGBColor(190, 30, 45);

/// A row a scenario: the slots that would be enough, are wanted and answer on the left, how long requests wait and the
/// bound on the right. SVG.
///
/// # Errors
/// [`Code::Internal`] when the plotting library fails.
pub(super) fn draw(courses: &[(Scenario, Course)]) -> Result<String> {
    let mut svg = String::new();
    {
        let height = ROW_HEIGHT * u32::try_from(courses.len()).unwrap_or(1);
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        for (row, (scenario, course)) in area.split_evenly((courses.len(), 1)).iter().zip(courses) {
            let (left, right) = row.split_horizontally(WIDTH * 3 / 5);
            slots(&left, scenario, course)?;
            waits(&right, scenario, course)?;
        }
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Line<'a> = (Vec<(f64, f64)>, &'a RGBColor, u32);

fn slots(area: &Area<'_>, scenario: &Scenario, course: &Course) -> Result<()> {
    let busy = scenario.service_seconds / scenario.terms.concurrency.min(scenario.places as f64);
    let line = |of: &dyn Fn(&Point) -> f64| course.points.iter().map(|point| (point.at, of(point))).collect();
    let title = format!(
        "{}: load in slots (grey), slots wanted (orange), slots that answer (blue)",
        scenario.shape.as_str()
    );
    let lines: [Line<'_>; 3] = [
        (line(&|point| point.rate * busy), &LOAD, 1),
        (line(&|point| point.wanted as f64), &WANTED, 2),
        (line(&|point| point.ready as f64), &READY, 1),
    ];
    chart(area, &title, "slots", scenario, &lines)
}

fn waits(area: &Area<'_>, scenario: &Scenario, course: &Course) -> Result<()> {
    let wait = course.points.iter().map(|point| (point.at, point.wait_seconds)).collect();
    let mut lines: Vec<Line<'_>> = vec![(wait, &READY, 2)];
    let title = match scenario.wait_bound() {
        Some(bound) => {
            lines.push((vec![(0.0, bound), (scenario.seconds, bound)], &BOUND, 1));
            format!("longest wait {:.1} s, bound (red) {bound:.1} s", course.wait_max)
        }
        None => format!("longest wait {:.1} s, too few slots allowed", course.wait_max),
    };
    chart(area, &title, "seconds", scenario, &lines)
}

fn chart(area: &Area<'_>, title: &str, unit: &str, scenario: &Scenario, lines: &[Line<'_>]) -> Result<()> {
    let most = lines.iter().flat_map(|(line, ..)| line).map(|(_, value)| *value).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 15).into_font())
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..scenario.seconds, 0.0..most * 1.1)
        .map_err(failed)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("simulated seconds").y_desc(unit).light_line_style(WHITE).y_labels(6);
    mesh.draw().map_err(failed)?;
    for (line, colour, width) in lines {
        let series = LineSeries::new(line.iter().copied(), colour.stroke_width(*width));
        chart.draw_series(series).map_err(failed)?;
    }
    Ok(())
}

/// A failure of the plotting library, as text: its error borrows the drawing.
fn failed(e: impl std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("failed to draw: {e}"))
}
