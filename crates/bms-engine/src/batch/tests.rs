use std::sync::Mutex;

use crossbeam_channel::bounded;

use super::*;

/// Doubles `x`, notes how many rows each run had; fails on a row that starts with 13 and panics on 666.
struct Doubler(Arc<Mutex<Vec<usize>>>, Receiver<()>);

impl Run for Doubler {
    fn run(&mut self, inputs: Named) -> Result<Named> {
        let _ = self.1.recv();
        let tensor = &inputs[0].1;
        self.0.lock().unwrap().push(tensor.rows());
        let values = tensor.as_f32().unwrap();
        assert!(!values.contains(&666.0), "a number no run-time likes");
        if values.contains(&13.0) {
            return Err(Error::new(Code::InvalidInput, "thirteen"));
        }
        let doubled = values.iter().map(|v| v * 2.0).collect();
        Ok(vec![("y".to_owned(), Tensor::f32(tensor.shape().to_vec(), doubled)?)])
    }
}

/// A batcher, the rows of its runs, and a gate that lets one run through for each message.
fn start(rows_max: usize, joins_rows: bool) -> (Batcher, Arc<Mutex<Vec<usize>>>, Sender<()>) {
    let runs = Arc::new(Mutex::new(Vec::new()));
    let (open, gate) = bounded(100);
    let bounds = Bounds { rows_max, wait: Duration::ZERO, queue_rows_max: 16, joins_rows };
    (Batcher::start(Doubler(runs.clone(), gate), bounds).unwrap(), runs, open)
}

fn ask(batcher: &Batcher, values: &[f32], wanted: bool) -> Result<Receiver<Result<Vec<f32>>>> {
    ask_at(batcher, values, wanted, 0)
}

fn ask_at(
    batcher: &Batcher,
    values: &[f32],
    wanted: bool,
    priority: u64,
) -> Result<Receiver<Result<Vec<f32>>>> {
    let (sender, receiver) = bounded(1);
    let reply = move |answer: Result<Named>| {
        sender.send(answer.map(|outputs| outputs[0].1.as_f32().unwrap().to_vec())).unwrap();
    };
    let rows = values.len() / 2;
    batcher.submit(Job {
        inputs: vec![("x".to_owned(), Tensor::f32(vec![rows, 2], values.to_vec())?)],
        rows,
        priority: Priority::new(priority)?,
        since: Instant::now(),
        wanted: Box::new(move || wanted),
        reply: Box::new(reply),
        _seat: batcher.admit(rows)?,
    })?;
    Ok(receiver)
}

#[test]
fn waiting_jobs_are_joined_and_each_gets_its_own_rows() {
    let (batcher, runs, open) = start(4, true);
    let first = ask(&batcher, &[0.0, 1.0], true).unwrap();
    // The first runs, or waits to, while these queue up.
    std::thread::sleep(Duration::from_millis(50));
    let rest: Vec<_> = (1..=5).map(|i| ask(&batcher, &[i as f32, 0.5], true).unwrap()).collect();
    (0..9).for_each(|_| open.send(()).unwrap());
    assert_eq!(first.recv().unwrap().unwrap(), [0.0, 2.0]);
    for (i, answer) in (1..=5).zip(rest) {
        assert_eq!(answer.recv().unwrap().unwrap(), [2.0 * i as f32, 1.0]);
    }
    assert_eq!(*runs.lock().unwrap(), [1, 4, 1]);
}

#[test]
fn urgent_jobs_go_first_and_what_happened_is_counted() {
    let (batcher, runs, open) = start(4, false);
    let first = ask(&batcher, &[0.0, 1.0], true).unwrap();
    // The first runs, or waits to, while these queue up: one, two and three rows.
    std::thread::sleep(Duration::from_millis(50));
    let late = ask_at(&batcher, &[1.0, 1.0], true, 9).unwrap();
    let usual = ask_at(&batcher, &[1.0; 4], true, 0).unwrap();
    let failing = ask_at(&batcher, &[13.0; 4], true, 2).unwrap();
    let urgent = ask_at(&batcher, &[1.0; 6], true, 1).unwrap();
    (0..9).for_each(|_| open.send(()).unwrap());
    for answer in [first, late, usual, urgent] {
        answer.recv().unwrap().unwrap();
    }
    failing.recv().unwrap().unwrap_err();
    assert_eq!(*runs.lock().unwrap(), [1, 3, 2, 2, 1]);
    assert!(Priority::new(10).is_err());
    let statistics = batcher.statistics().now();
    assert_eq!((statistics.inference_count, statistics.execution_count), (7, 4));
    let infer = statistics.inference_stats;
    assert_eq!((infer.success.count, infer.fail.count, infer.queue.count), (4, 1, 4));
    assert!(infer.queue.ns + infer.compute_infer.ns <= infer.success.ns, "{infer:?}");
    let sizes: Vec<_> =
        statistics.batch_stats.iter().map(|b| (b.batch_size, b.compute_infer.count)).collect();
    assert_eq!(sizes, [(1, 2), (2, 1), (3, 1)]);
    assert!(statistics.last_inference != 0);
}

#[test]
fn without_joining_each_job_runs_alone_whatever_its_size() {
    let (batcher, runs, open) = start(2, false);
    let large = ask(&batcher, &[1.0; 12], true).unwrap();
    (0..9).for_each(|_| open.send(()).unwrap());
    assert_eq!(large.recv().unwrap().unwrap(), [2.0; 12]);
    assert_eq!(*runs.lock().unwrap(), [6]);
}

#[test]
fn a_large_job_is_run_in_chunks_and_put_together() {
    let (batcher, runs, open) = start(4, true);
    let values: Vec<f32> = (0..18).map(|i| i as f32 + 100.0).collect();
    (0..9).for_each(|_| open.send(()).unwrap());
    let want: Vec<f32> = values.iter().map(|v| v * 2.0).collect();
    assert_eq!(ask(&batcher, &values, true).unwrap().recv().unwrap().unwrap(), want);
    assert_eq!(*runs.lock().unwrap(), [4, 4, 1]);
}

#[test]
fn a_full_queue_refuses_at_once_and_takes_again_when_drained() {
    let (batcher, _, open) = start(4, true);
    let waiting: Vec<_> = (0..16).map(|_| ask(&batcher, &[1.0, 1.0], true).unwrap()).collect();
    assert_eq!(ask(&batcher, &[1.0, 1.0], true).unwrap_err().code(), Code::QueueFull);
    (0..40).for_each(|_| open.send(()).unwrap());
    waiting.iter().for_each(|answer| drop(answer.recv().unwrap().unwrap()));
    while batcher.waiting_rows() != 0 {
        std::thread::yield_now();
    }
    assert_eq!(ask(&batcher, &[1.0, 1.0], true).unwrap().recv().unwrap().unwrap(), [2.0, 2.0]);
}

#[test]
fn one_bad_row_or_a_panic_fails_its_own_job_only() {
    let (batcher, _, open) = start(8, true);
    let first = ask(&batcher, &[0.0, 0.0], true).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let good = ask(&batcher, &[1.0, 2.0], true).unwrap();
    let bad = ask(&batcher, &[13.0, 0.0], true).unwrap();
    let panics = ask(&batcher, &[666.0, 0.0], true).unwrap();
    let also_good = ask(&batcher, &[3.0, 4.0], true).unwrap();
    (0..20).for_each(|_| open.send(()).unwrap());
    assert!(first.recv().unwrap().is_ok());
    assert_eq!(good.recv().unwrap().unwrap(), [2.0, 4.0]);
    assert_eq!(bad.recv().unwrap().unwrap_err().code(), Code::InvalidInput);
    assert_eq!(panics.recv().unwrap().unwrap_err().code(), Code::Internal);
    assert_eq!(also_good.recv().unwrap().unwrap(), [6.0, 8.0]);
    assert_eq!(ask(&batcher, &[1.0, 1.0], true).unwrap().recv().unwrap().unwrap(), [2.0, 2.0]);
}

#[test]
fn whoever_left_is_not_computed_for() {
    let (batcher, runs, open) = start(4, true);
    let gone = ask(&batcher, &[1.0, 1.0], false).unwrap();
    let here = ask(&batcher, &[2.0, 2.0], true).unwrap();
    (0..9).for_each(|_| open.send(()).unwrap());
    assert_eq!(here.recv().unwrap().unwrap(), [4.0, 4.0]);
    assert!(gone.recv().is_err(), "no reply, and the closure is dropped");
    assert_eq!(runs.lock().unwrap().iter().sum::<usize>(), 1);
}

#[test]
fn dropping_the_handle_finishes_what_waits() {
    let (batcher, _, open) = start(4, true);
    let waiting: Vec<_> = (0..6).map(|_| ask(&batcher, &[1.0, 1.0], true).unwrap()).collect();
    (0..9).for_each(|_| open.send(()).unwrap());
    drop(batcher);
    waiting.iter().for_each(|answer| assert_eq!(answer.recv().unwrap().unwrap(), [2.0, 2.0]));
}

#[test]
fn a_short_job_that_finds_nothing_before_it_runs_where_it_is_handed_in() {
    let (batcher, runs, open) = start(4, true);
    drop(open);
    let first = ask(&batcher, &[1.0, 2.0], true).unwrap();
    assert_eq!(first.recv().unwrap().unwrap(), [2.0, 4.0], "nothing is known of its time yet");
    // A run that was interrupted counts as slow until others have shown better.
    let in_place = (0..10_000).find(|i| {
        std::thread::sleep(Duration::from_nanos(2 * PAUSE_NS));
        let answer = ask(&batcher, &[*i as f32, 0.5], true).unwrap();
        let at_once = answer.try_recv().ok();
        let is_at_once = at_once.is_some();
        assert_eq!(at_once.unwrap_or_else(|| answer.recv().unwrap()).unwrap(), [2.0 * *i as f32, 1.0]);
        is_at_once
    });
    assert!(in_place.is_some());
    assert!(runs.lock().unwrap().iter().all(|rows| *rows == 1));
    let gone = ask(&batcher, &[1.0, 2.0], false).unwrap();
    assert!(gone.recv().is_err(), "a caller who has left is answered nowhere");
    let refused = ask(&batcher, &[13.0, 2.0], true).unwrap();
    assert!(refused.recv().unwrap().is_err());
    assert!(
        ask(&batcher, &[666.0, 2.0], true).unwrap().recv().unwrap().is_err(),
        "a panic is an answer, too"
    );
    assert_eq!(ask(&batcher, &[1.0, 1.0], true).unwrap().recv().unwrap().unwrap(), [2.0, 2.0]);
}

#[test]
fn a_job_behind_others_or_of_many_rows_is_left_to_the_thread() {
    let (batcher, _, open) = start(4, true);
    drop(open);
    batcher.graph.note(1, Duration::from_nanos(IN_PLACE_NS / 2));
    std::thread::sleep(Duration::from_nanos(2 * PAUSE_NS));
    assert!(batcher.graph.lock_for_short(2).is_some());
    assert!(batcher.graph.lock_for_short(3).is_none());
    let busy = batcher.graph.lock();
    assert!(batcher.graph.lock_for_short(1).is_none());
    let waits = ask(&batcher, &[1.0, 2.0], true).unwrap();
    drop(busy);
    assert_eq!(waits.recv().unwrap().unwrap(), [2.0, 4.0]);
    batcher.graph.note(1, Duration::from_secs(1));
    std::thread::sleep(Duration::from_nanos(2 * PAUSE_NS));
    assert!(batcher.graph.lock_for_short(1).is_none(), "a slow run counts at once");
}
