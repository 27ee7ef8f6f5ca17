//! `cargo xtask bench endurance`: two replicas on a real PostgreSQL and a real S3 store, under mixed load, while what they
//! consist of dies: slots all the time, a replica, the database, and both replicas in turns as in an update.
//!
//! It fails when a client that does what the guide says (ask the other replica, [`RETRIES`] times) is left without an answer,
//! when a stream of a language model says something else than without trouble, or when a write that was acknowledged
//! is not there at the end.

mod load;
mod picture;
mod scene;
mod streams;
mod trouble;
mod verdict;
mod writes;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use self::scene::Scene;
use self::streams::Streams;
use self::trouble::Trouble;
use self::verdict::Verdict;
use self::writes::Writes;
use super::{number, progress};
use crate::arguments::Arguments;

const MINUTES: usize = 10;
/// How often a client sends a request again; with two replicas every other time to the same.
pub(crate) const RETRIES: u32 = 4;

/// When it began and when it is over, for all who take part.
pub(crate) struct Course {
    pub(crate) begin: Instant,
    pub(crate) length: Duration,
    failed: AtomicBool,
}

impl Course {
    /// Whether there is nothing more to do.
    pub(crate) fn is_over(&self) -> bool {
        self.length < self.begin.elapsed() || self.failed.load(Ordering::Relaxed)
    }

    /// Seconds since it began.
    pub(crate) fn at(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// Waits until this share of it is over. Whether it still goes on.
    pub(crate) fn wait_for(&self, share: f64) -> bool {
        while self.begin.elapsed() < self.length.mul_f64(share) && !self.is_over() {
            std::thread::sleep(Duration::from_millis(50));
        }
        !self.is_over()
    }
}

pub(super) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let program = arguments.value("--program")?.map(PathBuf::from);
    let minutes = number(arguments.value("--minutes")?, "--minutes")?.unwrap_or(MINUTES);
    let as_json = arguments.flag("--json");
    arguments.finish()?;
    ensure!(minutes <= 24 * 60, "a day is enough");
    let scene = Scene::set(program)?;
    progress(format_args!("two replicas serve; {minutes} min of trouble begin"));
    let streams = Streams::prepare(&scene)?;
    let writes = Writes::prepare(&scene)?;
    let length = Duration::from_secs(60 * minutes as u64);
    let course = Course { begin: Instant::now(), length, failed: AtomicBool::new(false) };
    let trouble = Trouble::new(&scene, &course);
    let (loads, told) = std::thread::scope(|scope| {
        let loads = scope.spawn(|| load::run(&scene, &course));
        streams.spawn(scope, &scene, &course);
        writes.spawn(scope, &scene, &course);
        trouble.spawn_killer(scope);
        let told = trouble.run();
        if let Err(error) = &told {
            progress(format_args!("given up: {error:#}"));
            course.failed.store(true, Ordering::Relaxed);
        }
        (loads.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), told)
    });
    let trouble = told.map(|()| trouble.told())?;
    progress(format_args!("looking for what was written"));
    let verdict = Verdict::of(&scene, minutes, loads?, &streams, &writes, &trouble)?;
    let picture = scene.path("endurance.svg");
    std::fs::write(&picture, picture::draw(&verdict))?;
    std::fs::write(scene.path("endurance.json"), serde_json::to_vec_pretty(&verdict.json())?)?;
    match as_json {
        true => println!("{}", verdict.json()),
        false => print!("{}\nThe course of it: {}\n", verdict.text(), picture.display()),
    }
    Ok(if verdict.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests;
