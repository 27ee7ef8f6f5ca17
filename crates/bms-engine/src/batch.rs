//! The batcher: one thread that joins what waits, runs it, and splits the answers.
//!
//! A job that comes after a pause and finds nothing before it, and whose run takes no longer than waking a thread, runs where
//! it is handed in. Jobs that come close together do better on the thread, where they are joined.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use bms_nn::Tensor;
use bms_nn::onnx::{Home, Session};
use bms_wire::{Code, Error, Result};
use crossbeam_channel::{Receiver, Sender};

use crate::statistics::{Spent, Statistics, Waited, nanos};
use crate::{Priority, Progress};

/// A job expected to run no longer than this does not wake the batcher's thread, which takes as long: two switches
/// between threads are 20 to 100 µs, more on a virtual machine whose idle processors sleep.
const IN_PLACE_NS: u64 = 200_000;
/// Time without work after which others are not expected to join a job.
const PAUSE_NS: u64 = 200_000;

type Named = Vec<(String, Tensor)>;
type Reply = Box<dyn FnOnce(Result<Named>) + Send>;

/// What the thread that runs a graph needs of it.
pub(crate) trait Run: Send + 'static {
    /// Runs the graph once.
    fn run(&mut self, inputs: Named) -> Result<Named>;

    /// The threads on which a run begins at once, unless those are any.
    fn home(&self) -> Option<Home> {
        None
    }
}

impl Run for Session {
    fn run(&mut self, inputs: Named) -> Result<Named> {
        Session::run(self, inputs)
    }

    fn home(&self) -> Option<Home> {
        Session::home(self)
    }
}

/// How much is joined, and how much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) rows_max: usize,
    pub(crate) wait: Duration,
    pub(crate) queue_rows_max: usize,
    pub(crate) joins_rows: bool,
}

/// One request's checked tensors.
pub(crate) struct Job {
    pub(crate) inputs: Named,
    pub(crate) rows: usize,
    pub(crate) priority: Priority,
    /// When it was handed in.
    pub(crate) since: Instant,
    pub(crate) wanted: Box<dyn Fn() -> bool + Send>,
    pub(crate) reply: Reply,
    pub(crate) _seat: Seat,
}

/// Room in the queue for some rows, given back when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    rows: usize,
    taken: Arc<AtomicUsize>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.rows, Ordering::AcqRel);
    }
}

/// The handle on the thread.
#[derive(Debug)]
pub(crate) struct Batcher {
    /// `None` only while being dropped.
    sender: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    taken: Arc<AtomicUsize>,
    graph: Arc<Graph>,
}

/// The session with what is known of it.
struct Graph {
    session: Mutex<Box<dyn Run>>,
    home: Option<Home>,
    /// The thread that runs what waits: the batcher's own, or the session's home.
    works_on: OnceLock<ThreadId>,
    bounds: Bounds,
    statistics: Statistics,
    /// What a row took in the last runs; 0 before the first.
    nanos_a_row: AtomicU64,
    /// Begins and ends of batches.
    steps: AtomicU64,
    began: Instant,
    /// When the last run ended, in nanoseconds since `began`.
    ended_at: AtomicU64,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

impl Graph {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Run>> {
        // Panics of a run are caught while the lock is held.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session, when it can run on this thread, has been free for a while, and a run of so many rows is short.
    fn lock_for_short(&self, rows: usize) -> Option<MutexGuard<'_, Box<dyn Run>>> {
        let a_row = self.nanos_a_row.load(Ordering::Relaxed);
        let is_elsewhere = self.home.as_ref().is_some_and(|home| !home.is_here());
        let is_bound = is_elsewhere || !self.bounds.wait.is_zero();
        if is_bound || a_row == 0 || IN_PLACE_NS < a_row.saturating_mul(rows as u64) {
            return None;
        }
        let free_for = nanos(self.began.elapsed()).saturating_sub(self.ended_at.load(Ordering::Relaxed));
        if free_for < PAUSE_NS {
            return None;
        }
        match self.session.try_lock() {
            Ok(session) => Some(session),
            Err(TryLockError::Poisoned(session)) => Some(session.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Takes in what a run took: a slow one counts at once, quick ones a quarter each.
    fn note(&self, rows: usize, took: Duration) {
        let now = nanos(took) / rows.max(1) as u64;
        let before = self.nanos_a_row.load(Ordering::Relaxed);
        let smooth = if before < now { now } else { before - (before - now) / 4 };
        self.nanos_a_row.store(smooth.max(1), Ordering::Relaxed);
        self.ended_at.store(nanos(self.began.elapsed()), Ordering::Relaxed);
    }
}

impl Batcher {
    pub(crate) fn start(session: impl Run, bounds: Bounds) -> Result<Batcher> {
        // A job has at least one row and holds a seat, so this never fills up and sending never blocks.
        let (sender, receiver) = crossbeam_channel::bounded(bounds.queue_rows_max + 1);
        let graph = Arc::new(Graph {
            home: session.home(),
            works_on: OnceLock::new(),
            session: Mutex::new(Box::new(session)),
            bounds,
            statistics: Statistics::default(),
            nanos_a_row: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            began: Instant::now(),
            ended_at: AtomicU64::new(0),
        });
        let shared = graph.clone();
        let thread = std::thread::Builder::new()
            .name("bms-batcher".to_owned())
            .spawn(move || {
                let waiting = Waiting::new(receiver);
                match &shared.home {
                    Some(home) => home.run(|| work(&shared, waiting)),
                    None => work(&shared, waiting),
                }
            })
            .map_err(|e| {
                Error::new(Code::Internal, format!("failed to start the engine's thread: {e}")).because(e)
            })?;
        Ok(Batcher { sender: Some(sender), thread: Some(thread), taken: Arc::default(), graph })
    }

    /// Takes room for `rows`, or refuses at once. A request larger than the whole queue is let in when it is empty.
    pub(crate) fn admit(&self, rows: usize) -> Result<Seat> {
        let rows_max = self.graph.bounds.queue_rows_max;
        let admit = |taken: usize| match taken.checked_add(rows) {
            Some(sum) if taken == 0 || sum <= rows_max => Some(sum),
            _ => None,
        };
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, admit) {
            Ok(_) => Ok(Seat { rows, taken: self.taken.clone() }),
            Err(taken) => Err(Error::new(Code::QueueFull, format!("{taken} rows wait already"))
                .hint("Send it again after a pause, or add slots.")),
        }
    }

    /// Hands a job in. One that is short and comes after a pause may have been answered when this returns.
    pub(crate) fn submit(&self, job: Job) -> Result<()> {
        // The job's own rows are counted already; more are somebody's who waits or runs.
        if self.waiting_rows() == job.rows
            && let Some(mut session) = self.graph.lock_for_short(job.rows)
        {
            answer(&mut **session, vec![job], &self.graph);
            return Ok(());
        }
        let ended = || Error::new(Code::Internal, "the engine's thread has ended");
        self.sender.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())
    }

    /// Rows of separate jobs that are joined; 0 when each runs alone.
    pub(crate) fn joined_rows_max(&self) -> usize {
        if self.graph.bounds.joins_rows { self.graph.bounds.rows_max } else { 0 }
    }

    /// Runs these tensors and waits for what comes out.
    pub(crate) fn ask(&self, inputs: Named, rows: usize, priority: Priority) -> Result<Named> {
        let (since, seat) = (Instant::now(), self.admit(rows)?);
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let reply = move |answer| {
            // The receiver waits below; it cannot be gone.
            let _ = sender.send(answer);
        };
        let (wanted, reply) = (Box::new(|| true), Box::new(reply));
        self.submit(Job { inputs, rows, priority, since, wanted, reply, _seat: seat })?;
        let ended = || Err(Error::new(Code::Internal, "the engine's thread ended before it answered"));
        receiver.recv().unwrap_or_else(|_| ended())
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.graph.statistics
    }

    pub(crate) fn waiting_rows(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    pub(crate) fn progress(&self) -> Progress {
        Progress { steps: self.graph.steps.load(Ordering::Relaxed), waiting: self.waiting_rows() as u64 }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        // Without a sender the thread finishes what waits, then ends.
        drop(self.sender.take());
        if let Some(thread) = self.thread.take()
            && self.graph.works_on.get() != Some(&std::thread::current().id())
        {
            // Its panics are caught inside; there is nothing to learn from its end.
            let _ = thread.join();
        }
    }
}

/// Jobs that have come and wait, the most urgent first; of equal ones the first.
struct Waiting {
    receiver: Receiver<Job>,
    jobs: BTreeMap<(Priority, u64), Job>,
    came: u64,
}

impl Waiting {
    fn new(receiver: Receiver<Job>) -> Self {
        Waiting { receiver, jobs: BTreeMap::new(), came: 0 }
    }

    fn put(&mut self, job: Job) {
        self.came += 1;
        self.jobs.insert((job.priority, self.came), job);
    }

    /// The next job; waits for one, until `deadline` when there is one. `None` when none comes.
    fn next(&mut self, deadline: Option<Instant>) -> Option<Job> {
        while let Ok(job) = self.receiver.try_recv() {
            self.put(job);
        }
        if self.jobs.is_empty() {
            let came = match deadline {
                None => self.receiver.recv().ok(),
                Some(deadline) => self.receiver.recv_deadline(deadline).ok(),
            };
            self.put(came?);
        }
        self.jobs.pop_first().map(|(_, job)| job)
    }

    /// Gives back a job that was taken: it goes before all others of its level.
    fn put_back(&mut self, job: Job) {
        self.jobs.insert((job.priority, 0), job);
    }
}

/// The thread: takes a job, joins others to it, runs them, until all handles are gone.
fn work(graph: &Graph, mut waiting: Waiting) {
    graph.works_on.get_or_init(|| std::thread::current().id());
    while let Some(first) = waiting.next(None) {
        let mut session = graph.lock();
        let mut batch = vec![first];
        if graph.bounds.joins_rows {
            gather(&mut batch, &mut waiting, graph.bounds);
        }
        answer(&mut **session, batch, graph);
    }
}

/// Runs those jobs of a batch that are still wanted.
fn answer(session: &mut dyn Run, mut batch: Vec<Job>, graph: &Graph) {
    // A caller whose question panics is served like any other; the thread lives on.
    batch.retain(|job| catch_unwind(AssertUnwindSafe(|| (job.wanted)())).unwrap_or(true));
    if !batch.is_empty() {
        graph.steps.fetch_add(1, Ordering::Relaxed);
        run(session, batch, graph);
        graph.steps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds waiting jobs to the batch while they fit; gives back the one that does not.
fn gather(batch: &mut Vec<Job>, waiting: &mut Waiting, bounds: Bounds) {
    let deadline = Instant::now() + bounds.wait;
    let mut rows = batch[0].rows;
    while rows < bounds.rows_max {
        let Some(job) = waiting.next(Some(deadline)) else { return };
        if bounds.rows_max < rows + job.rows || !fits(&batch[0].inputs, &job.inputs) {
            waiting.put_back(job);
            return;
        }
        rows += job.rows;
        batch.push(job);
    }
}

/// Whether two jobs' tensors differ in nothing but their number of rows.
fn fits(a: &Named, b: &Named) -> bool {
    let same = |(name, tensor): &(String, Tensor)| {
        let other = b.iter().find(|(n, _)| n == name);
        other.is_some_and(|(_, t)| t.dtype() == tensor.dtype() && t.shape()[1..] == tensor.shape()[1..])
    };
    a.len() == b.len() && a.iter().all(same)
}

/// Runs a batch and answers every job of it. A panic fails this batch only.
fn run(session: &mut dyn Run, mut batch: Vec<Job>, graph: &Graph) {
    let (began, mut spent) = (Instant::now(), Spent::default());
    let result = catch_unwind(AssertUnwindSafe(|| outputs(session, &mut batch, graph.bounds, &mut spent)));
    graph.note(spent.runs.iter().sum(), began.elapsed());
    let result =
        result.unwrap_or_else(|_| Err(Error::new(Code::Internal, "the run-time failed on this input")));
    let answers: Vec<Result<Named>> = match result {
        Ok(answers) => {
            let waited = |job: &Job| Waited {
                rows: job.rows,
                queue: began.duration_since(job.since),
                total: job.since.elapsed(),
            };
            graph.statistics.answered(&spent, batch.iter().map(waited));
            answers.into_iter().map(Ok).collect()
        }
        // One job's values must not fail the others': each is tried alone before it is told so.
        Err(_) if 1 < batch.len() => {
            batch.into_iter().for_each(|job| run(session, vec![job], graph));
            return;
        }
        Err(error) => {
            batch.iter().for_each(|job| graph.statistics.failed(job.since.elapsed()));
            vec![Err(error)]
        }
    };
    for (job, answer) in batch.into_iter().zip(answers) {
        // A reply that panics is its caller's fault and must not end the thread.
        let _ = catch_unwind(AssertUnwindSafe(|| (job.reply)(answer)));
    }
}

/// Does one part of a batch's work and adds the time to where it belongs.
fn timed<T>(into: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = work();
    *into += began.elapsed();
    done
}

/// The outputs of each job of a batch.
fn outputs(
    session: &mut dyn Run,
    batch: &mut [Job],
    bounds: Bounds,
    spent: &mut Spent,
) -> Result<Vec<Named>> {
    if let [job] = batch {
        if bounds.joins_rows && bounds.rows_max < job.rows {
            return in_chunks(session, job, bounds.rows_max, spent).map(|outputs| vec![outputs]);
        }
        spent.runs.push(job.rows);
        // A job that runs alone is not tried again, so its tensors need no copy.
        let inputs = std::mem::take(&mut job.inputs);
        return timed(&mut spent.infer, || session.run(inputs)).map(|outputs| vec![outputs]);
    }
    let joined: Named = timed(&mut spent.input, || {
        let column = |(name, _): &(String, Tensor)| {
            let parts =
                batch.iter().filter_map(|job| job.inputs.iter().find(|(n, _)| n == name).map(|(_, t)| t));
            Ok((name.clone(), Tensor::concat_rows(&parts.collect::<Vec<_>>())?))
        };
        batch[0].inputs.iter().map(column).collect::<Result<_>>()
    })?;
    spent.runs.push(batch.iter().map(|job| job.rows).sum());
    let total = timed(&mut spent.infer, || session.run(joined))?;
    timed(&mut spent.output, || {
        let mut start = 0;
        let split = |job: &Job| {
            let range = start..start + job.rows;
            start = range.end;
            total.iter().map(|(name, tensor)| Ok((name.clone(), tensor.slice_rows(range.clone())?))).collect()
        };
        batch.iter().map(split).collect()
    })
}

/// A job of more rows than one run takes.
fn in_chunks(session: &mut dyn Run, job: &Job, rows_max: usize, spent: &mut Spent) -> Result<Named> {
    let mut parts: Vec<Named> = Vec::new();
    for start in (0..job.rows).step_by(rows_max) {
        let range = start..(start + rows_max).min(job.rows);
        let slice = |(name, tensor): &(String, Tensor)| Ok((name.clone(), tensor.slice_rows(range.clone())?));
        let inputs = timed(&mut spent.input, || job.inputs.iter().map(slice).collect::<Result<_>>())?;
        spent.runs.push(range.len());
        parts.push(timed(&mut spent.infer, || session.run(inputs))?);
    }
    let join = |(index, (name, _)): (usize, &(String, Tensor))| {
        let column: Vec<&Tensor> = parts.iter().filter_map(|part| part.get(index)).map(|(_, t)| t).collect();
        Ok((name.clone(), Tensor::concat_rows(&column)?))
    };
    timed(&mut spent.output, || {
        parts.first().map_or(Ok(Vec::new()), |first| first.iter().enumerate().map(join).collect())
    })
}

#[cfg(test)]
mod tests;
