//! The course of the run as a picture: what clients waited for, what was answered, memory, and what happened when.

use std::fmt::Write as _;

use serde_json::Value;

use super::verdict::Verdict;

const WIDTH: f64 = 1200.0;
/// Room for the numbers beside a chart, and for the words below all of them.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const CHART: f64 = 190.0;
const GAP: f64 = 46.0;
const COLOURS: [&str; 6] = ["#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#d62728", "#7f7f7f"];

/// Values over seconds.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

struct Chart {
    title: &'static str,
    logarithmic: bool,
    lines: Vec<Line>,
}

/// Draws it. SVG.
pub(super) fn draw(verdict: &Verdict) -> String {
    let charts = [waits(verdict), answers(verdict), memory(verdict)];
    let last = charts.iter().flat_map(|chart| &chart.lines).filter_map(|line| line.points.last());
    let seconds = last.map(|(at, _)| *at).fold(1.0, f64::max);
    let events = &verdict.trouble.events;
    let below = 40.0 + charts.len() as f64 * (CHART + GAP);
    let height = below + 18.0 * events.len() as f64 + 20.0;
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * (at / seconds).clamp(0.0, 1.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (number, (at, what)) in events.iter().enumerate() {
        let y = below + 18.0 * number as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"30\" y2=\"{1:.1}\" stroke=\"#f0a030\" stroke-dasharray=\"3 3\"/>\
             <text x=\"{LEFT}\" y=\"{2:.1}\">{at:.1} s: {3}</text>",
            x(*at),
            below - GAP,
            y + 12.0,
            escaped(what)
        );
    }
    for (number, chart) in charts.iter().enumerate() {
        chart.draw(&mut svg, 40.0 + number as f64 * (CHART + GAP), &x, seconds);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Chart {
    fn draw(&self, svg: &mut String, top: f64, x: &dyn Fn(f64) -> f64, seconds: f64) {
        let values = || self.lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
        let most = values().fold(f64::MIN_POSITIVE, f64::max);
        let least = values().filter(|value| 0.0 < *value).fold(most, f64::min);
        let share = |value: f64| match self.logarithmic {
            true => (value.max(least) / least).ln() / (most / least).ln().max(1e-9),
            false => value / most,
        };
        let y = |value: f64| top + CHART - CHART * share(value);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{top}\" width=\"{:.1}\" height=\"{CHART}\" fill=\"none\" stroke=\"#bbb\"/>",
            top - 8.0,
            self.title,
            WIDTH - LEFT - RIGHT
        );
        let middle = if self.logarithmic { (least * most).sqrt() } else { most / 2.0 };
        let lowest = if self.logarithmic { least } else { 0.0 };
        for value in [lowest, middle, most] {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.1}</text>",
                LEFT - 6.0,
                y(value) + 4.0
            );
        }
        for at in [0.0, seconds / 2.0, seconds] {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0} s</text>",
                x(at),
                top + CHART + 14.0
            );
        }
        for (number, line) in self.lines.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            let points = line.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)));
            let _ = writeln!(
                svg,
                "<polyline fill=\"none\" stroke=\"{colour}\" points=\"{}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
                points.collect::<Vec<_>>().join(" "),
                LEFT + 240.0 + 150.0 * number as f64,
                top - 8.0,
                escaped(&line.name)
            );
        }
    }
}

/// A number of each second of each kind of request.
fn of_course(verdict: &Verdict, name: &str) -> Vec<Line> {
    let line = |heard: &super::load::Heard| {
        let course = heard.report["course"].as_array().map_or(&[][..], Vec::as_slice);
        let value = |second: &Value| second[name].as_f64().unwrap_or(0.0);
        let points = course.iter().enumerate().map(|(at, second)| (at as f64, value(second)));
        Line { name: heard.kind.to_owned(), points: points.collect() }
    };
    verdict.requests.iter().map(line).collect()
}

fn waits(verdict: &Verdict) -> Chart {
    let mut lines = of_course(verdict, "longest_ms");
    let silences = verdict.streams.longest_silence.iter().enumerate();
    let points = silences.map(|(at, seconds)| (at as f64, seconds * 1e3)).collect();
    lines.push(Line { name: "silence of streams".to_owned(), points });
    Chart { title: "longest wait of each second, ms", logarithmic: true, lines }
}

fn answers(verdict: &Verdict) -> Chart {
    let lines = of_course(verdict, "answered");
    Chart { title: "answers of each second", logarithmic: false, lines }
}

fn memory(verdict: &Verdict) -> Chart {
    let replicas = verdict.trouble.resident.first().map_or(0, |(_, bytes)| bytes.len());
    let line = |replica: usize| {
        let resident = verdict.trouble.resident.iter();
        let points = resident.map(|(at, bytes)| (*at, bytes[replica] as f64 / f64::from(1 << 20)));
        Line { name: format!("replica {}", replica + 1), points: points.collect() }
    };
    Chart {
        title: "memory of the replicas, MiB",
        logarithmic: false,
        lines: (0..replicas).map(line).collect(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
