//! Workers as jobs of a Slurm cluster: a launcher that keeps so many running, each replaced before its walltime is over.
//!
//! Slurm's own programs are asked (`sbatch`, `squeue --json`, `scancel`, `scontrol`), and Slurm is the only record of what was
//! submitted: a job's name says which seat of which group it has, and in which generation, so that a launcher that was killed
//! finds everything again. Each look at the queue yields what to do next (`plan`), and nothing is done without a look.
//!
//! Two jobs of one name never run at once (`--dependency=singleton`): what is submitted twice, by a call whose answer
//! was lost or by two launchers, waits until the next look cancels it.

mod plan;
mod programs;
mod queue;
mod reason;
mod run;
mod script;
mod settings;

pub use run::{Event, run};
pub use settings::Settings;
