//! A process that was confined, and what it tries.
//!
//! This program is both: the tests, and, when [`attempt::VARIABLE`] says so, the process that confines itself. The harness
//! is not the usual one because that process must have one thread.

mod attempt;
mod confined;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(asked) = attempt::asked() {
        return attempt::confine_and_try(&asked);
    }
    let arguments = Arguments::from_args();
    libtest_mimic::run(&arguments, trials()).exit_code()
}

fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| {
        Trial::test(name, move || {
            if possible() {
                test();
            }
            Ok::<_, Failed>(())
        })
    };
    vec![
        trial("what_a_model_needs_works", confined::what_a_model_needs_works),
        trial("what_leads_out_is_denied_and_told", confined::what_leads_out_is_denied_and_told),
        trial("without_a_watcher_it_is_denied_all_the_same", confined::without_a_watcher),
        trial("a_watcher_that_goes_away_opens_nothing", confined::a_watcher_that_goes_away),
        trial("a_watcher_that_breaks_opens_nothing", confined::a_watcher_that_breaks),
        trial("what_is_tried_again_and_again_is_told_in_sums", confined::again_and_again),
        trial("a_process_with_other_threads_is_not_confined", confined::other_threads),
        trial("a_thread_of_its_own_is_confined_too", confined::later_threads),
        trial("what_enforces_is_said", confined::what_enforces_is_said),
    ]
}

/// Whether this machine confines processes. In CI it must.
fn possible() -> bool {
    let support = bms_sandbox::Support::detect();
    if support.confines() && support.notification {
        return true;
    }
    eprintln!("SKIPPED: this machine confines no process: {support:?}");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must run on a machine that confines processes");
    false
}
