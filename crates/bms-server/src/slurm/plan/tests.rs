use super::*;

const TERMS: Terms = Terms { replace_before: 600, settle: 30, drain: 60 };
const NOW: u64 = 1_000_000;

fn job(id: u64, seat: u32, generation: u32, phase: Phase) -> Job {
    let started = matches!(phase, Phase::Running | Phase::Ended | Phase::Ending);
    Job {
        id,
        tag: Tag { seat, generation },
        phase,
        state: String::new(),
        reason: String::new(),
        node: String::new(),
        starts: started.then_some(NOW - 1000),
        ends: started.then_some(if phase == Phase::Running { NOW + 2600 } else { NOW }),
        draining_since: None,
    }
}

fn submit(seat: u32, generation: u32) -> Action {
    Action::Submit(Tag { seat, generation })
}

#[test]
fn empty_seats_are_filled_and_taken_ones_left_alone() {
    assert_eq!(plan(&[], 2, NOW, TERMS), [submit(0, 0), submit(1, 0)]);
    let jobs = [job(1, 0, 3, Phase::Running), job(2, 1, 0, Phase::Waiting), job(3, 2, 0, Phase::Unknown)];
    assert_eq!(plan(&jobs, 3, NOW, TERMS), []);
    assert_eq!(plan(&[job(1, 0, 3, Phase::Ended)], 1, NOW, TERMS), [submit(0, 4)]);
}

#[test]
fn the_next_is_submitted_before_the_end_and_the_old_one_drains_once_it_is_ready() {
    let mut old = job(1, 0, 0, Phase::Running);
    old.ends = Some(NOW + 601);
    assert_eq!(plan(&[old.clone()], 1, NOW, TERMS), []);
    old.ends = Some(NOW + 600);
    assert_eq!(plan(&[old.clone()], 1, NOW, TERMS), [submit(0, 1)]);
    let mut new = job(2, 0, 1, Phase::Waiting);
    assert_eq!(plan(&[old.clone(), new.clone()], 1, NOW, TERMS), [], "nobody drains for one that waits");
    new.phase = Phase::Running;
    (new.starts, new.ends) = (Some(NOW - 29), Some(NOW + 3600));
    assert_eq!(plan(&[old.clone(), new.clone()], 1, NOW, TERMS), [], "nor for one that only just runs");
    new.starts = Some(NOW - 30);
    assert_eq!(plan(&[old.clone(), new.clone()], 1, NOW, TERMS), [Action::Drain(1, "the next one is ready")]);
    old.draining_since = Some(NOW - 60);
    assert_eq!(plan(&[old.clone(), new.clone()], 1, NOW, TERMS), []);
    old.draining_since = Some(NOW - 61);
    assert_eq!(plan(&[old, new], 1, NOW, TERMS), [Action::Cancel(1, "it did not drain in time")]);
}

#[test]
fn what_was_submitted_twice_is_cancelled() {
    let jobs = [job(7, 0, 0, Phase::Running), job(9, 0, 0, Phase::Waiting)];
    assert_eq!(plan(&jobs, 1, NOW, TERMS), [Action::Cancel(9, "it was submitted twice")]);
}

#[test]
fn fewer_wanted_drains_those_that_run_and_cancels_those_that_wait() {
    let mut jobs = [job(1, 0, 0, Phase::Running), job(2, 1, 0, Phase::Running), job(3, 2, 0, Phase::Waiting)];
    let why = "it is not needed any more";
    assert_eq!(plan(&jobs, 1, NOW, TERMS), [Action::Drain(2, why), Action::Cancel(3, why)]);
    jobs[1].draining_since = Some(NOW);
    assert_eq!(plan(&jobs[..2], 1, NOW, TERMS), []);
    // Wanted again while it drains: the seat gets another.
    assert_eq!(plan(&jobs[..2], 2, NOW, TERMS), [submit(1, 1)]);
}

#[test]
fn jobs_that_end_soon_are_tried_again_ever_more_rarely() {
    let failed = |generation: u32, ended: u64| {
        let mut job = job(u64::from(generation), 0, generation, Phase::Ended);
        (job.starts, job.ends) = (Some(ended - 1), Some(ended));
        job
    };
    let pause = |jobs: &[Job]| (0..1000).find(|wait| !plan(jobs, 1, NOW + wait, TERMS).is_empty()).unwrap();
    assert_eq!(pause(&[failed(0, NOW)]), 5);
    assert_eq!(pause(&[failed(0, NOW - 10), failed(1, NOW)]), 10);
    let many: Vec<Job> = (0..40).map(|generation| failed(generation, NOW)).collect();
    assert_eq!(pause(&many), 300);
    // One that lived, or was told to drain, begins the count anew.
    let lived = job(50, 0, 50, Phase::Ended);
    assert_eq!(pause(&[failed(0, NOW), lived]), 0);
    let mut drained = failed(1, NOW);
    drained.draining_since = Some(NOW - 1);
    assert_eq!(pause(&[drained]), 0);
}

/// A made-up cluster: jobs wait for some time, run, and end at their walltime or when told. Whatever happens to them, a seat
/// never has more than two running, and once a worker runs there is one at every moment of the rest.
#[test]
fn a_seat_is_never_empty_over_many_walltimes() {
    let (walltime, queueing, drains) = (3600, 120, 40);
    let mut jobs: Vec<Job> = Vec::new();
    let (mut next, mut begun) = (1, false);
    for now in (NOW..NOW + 12 * walltime).step_by(5) {
        for job in &mut jobs {
            match job.phase {
                Phase::Waiting if job.starts.is_some_and(|at| at <= now) => {
                    (job.phase, job.ends) = (Phase::Running, Some(now + walltime));
                }
                Phase::Running
                    if job.ends.is_some_and(|at| at <= now)
                        || job.draining_since.is_some_and(|at| at + drains <= now) =>
                {
                    (job.phase, job.ends) = (Phase::Ended, Some(now));
                }
                _ => {}
            }
        }
        let seen: Vec<Job> = jobs
            .iter()
            .cloned()
            .map(|job| Job { starts: job.starts.filter(|_| job.phase != Phase::Waiting), ..job })
            .collect();
        for action in plan(&seen, 1, now, TERMS) {
            match action {
                Action::Submit(tag) => {
                    let mut new = job(next, tag.seat, tag.generation, Phase::Waiting);
                    new.starts = Some(now + queueing);
                    jobs.push(new);
                    next += 1;
                }
                Action::Drain(id, _) => {
                    jobs.iter_mut().find(|job| job.id == id).unwrap().draining_since = Some(now);
                }
                Action::Cancel(id, why) => panic!("{id} is cancelled: {why}"),
            }
        }
        let serving =
            jobs.iter().filter(|job| job.phase == Phase::Running && job.draining_since.is_none()).count();
        begun |= 0 < serving;
        assert!(!begun || 0 < serving, "no worker at {now}");
        let running = jobs.iter().filter(|job| job.phase == Phase::Running).count();
        assert!(running <= 2, "{running} run at {now}");
    }
    // 43,200 s, each job replaced 480 s before its end: 120 s of queueing and 30 s of settling of the 600.
    assert!((13..=15).contains(&jobs.len()), "{} jobs", jobs.len());
}
