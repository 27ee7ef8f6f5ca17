//! `bms bench autoscaler`: the server's control law under simulated load.

mod picture;

use std::path::PathBuf;

use bms_server::autoscale::Terms;
use bms_server::autoscale::simulation::{Course, Scenario, Shape, run};
use bms_wire::{Error, Result};
use clap::Args;
use serde_json::{Value, json};

use crate::output::{self, Output};

/// Options of `bms bench autoscaler`.
#[derive(Debug, Args)]
pub(crate) struct Autoscaler {
    /// Requests a second at most.
    #[arg(long, value_name = "N", default_value_t = 200.0, value_parser = positive)]
    rate: f64,
    /// Milliseconds a request takes in a slot.
    #[arg(long, value_name = "MS", default_value_t = 200.0, value_parser = positive)]
    service_ms: f64,
    /// Requests a slot works on at once.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    places: u16,
    /// Seconds a slot takes to start.
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0, value_parser = positive)]
    start: f64,
    /// As of `bms deploy`; the idle scenario always goes down to none.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(0..=64))]
    min_slots: u16,
    /// As of `bms deploy`.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    max_slots: u16,
    /// As of `bms deploy`.
    #[arg(long, value_name = "REQUESTS", default_value_t = 4.0, value_parser = positive)]
    target_concurrency: f64,
    /// As of `bms deploy`; 0 for none.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    target_queue_ms: u64,
    /// Seconds without a request after which the last slot of the idle scenario goes.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0, value_parser = positive)]
    idle: f64,
    /// Seconds simulated.
    #[arg(long, value_name = "SECONDS", default_value_t = 720.0, value_parser = positive)]
    seconds: f64,
    /// Where the chance of the noisy scenario begins.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Draw the courses into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

fn positive(text: &str) -> std::result::Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| (1e-3..=1e5).contains(number));
    number.ok_or_else(|| "expected a number from 0.001 to 100000".to_owned())
}

impl Autoscaler {
    fn scenario(&self, shape: Shape) -> Scenario {
        let is_idle = shape == Shape::Idle;
        let least = if is_idle { 0 } else { usize::from(self.min_slots.min(self.max_slots)) };
        Scenario {
            shape,
            rate: self.rate,
            service_seconds: self.service_ms / 1e3,
            places: usize::from(self.places),
            start_seconds: self.start,
            terms: Terms {
                min: least,
                max: usize::from(self.max_slots),
                idle_seconds: self.idle,
                concurrency: self.target_concurrency,
                queue_seconds: (self.target_queue_ms != 0).then(|| self.target_queue_ms as f64 / 1e3),
                tokens: None,
            },
            seconds: self.seconds,
            seed: self.seed,
        }
    }

    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let courses = Shape::ALL.map(|shape| {
            let scenario = self.scenario(shape);
            (scenario, run(&scenario))
        });
        if let Some(path) = &self.picture {
            let svg = picture::draw(&courses)?;
            std::fs::write(path, svg).map_err(|e| Error::io("write", path, e))?;
        }
        let mut table = output::table(&[
            "load",
            "answered",
            "longest wait s",
            "bound s",
            "mean wait ms",
            "slots",
            "up",
            "down",
            "slot hours",
        ]);
        for (scenario, course) in &courses {
            let slots = || course.points.iter().map(|point| point.wanted);
            table.add_row([
                scenario.shape.as_str().to_owned(),
                course.answered.to_string(),
                format!("{:.2}", course.wait_max),
                scenario.wait_bound().map_or("none".to_owned(), |bound| format!("{bound:.2}")),
                format!("{:.1}", course.wait_mean * 1e3),
                format!("{}..{}", slots().min().unwrap_or(0), slots().max().unwrap_or(0)),
                course.ups.to_string(),
                course.downs.to_string(),
                format!("{:.2}", course.slot_seconds / 3600.0),
            ]);
        }
        let values: Vec<Value> = courses.iter().map(|(scenario, course)| value(scenario, course)).collect();
        output.result(table, &values);
        Ok(())
    }
}

fn value(scenario: &Scenario, course: &Course) -> Value {
    json!({
        "load": scenario.shape.as_str(),
        "answered": course.answered,
        "left": course.left,
        "wait_max_seconds": course.wait_max,
        "wait_bound_seconds": scenario.wait_bound(),
        "wait_mean_seconds": course.wait_mean,
        "slots_max": course.points.iter().map(|point| point.wanted).max(),
        "ups": course.ups,
        "downs": course.downs,
        "slot_seconds": course.slot_seconds,
    })
}
