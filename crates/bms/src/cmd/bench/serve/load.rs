//! Asking: when, on which connection, and what counts.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bms_wire::client::ServerKey;
use bms_wire::{Code, Error, Result};
use http::{HeaderValue, Uri};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Arrivals;
use super::exchange::{Connection, Form, Place, Way};
use super::in_process::InProcess;
use super::tally::{Outcome, Tally};
use super::work::{Ask, Work};
use crate::output::{Output, Progress};
use crate::processor::processor_time;

/// Requests of an open loop that may be due without a connection; when it is full, the rest is not asked, and counted.
const DUE_MAX: usize = 1 << 20;
/// How often progress is shown.
const SHOWN_EACH: Duration = Duration::from_millis(500);

/// When requests are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pace {
    /// As soon as a connection has its answer.
    Closed,
    /// At times of their own.
    Open {
        /// In a second.
        rate: f64,
        arrivals: Arrivals,
    },
}

/// A load and what bounds it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) servers: Vec<Uri>,
    /// How connections to those at https:// addresses are encrypted.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// What is asked instead of the servers.
    pub(super) in_process: Option<InProcess>,
    pub(super) path: String,
    pub(super) key: Option<ServerKey>,
    pub(super) form: Form,
    /// How often a request is sent again.
    pub(super) retries: u32,
    pub(super) connections: usize,
    /// Threads they share.
    pub(super) threads: usize,
    pub(super) pace: Pace,
    pub(super) warm_up: Duration,
    pub(super) measured: Duration,
    pub(super) requests_max: u64,
    pub(super) timeout: Duration,
    pub(super) within: Option<Duration>,
    pub(super) seed: u64,
}

/// What all connections share.
struct Shared {
    way: Way,
    /// From when on requests count, and until when they are made.
    begin: Instant,
    end: Instant,
    timeout: Duration,
    within: Option<Duration>,
    due: Mutex<Due>,
    /// Rung for each request that becomes due.
    bell: Notify,
    heard: Mutex<Heard>,
}

/// Requests that wait for a connection.
#[derive(Default)]
struct Due {
    waiting: VecDeque<(Instant, Ask)>,
    /// No more will come.
    over: bool,
}

struct Heard {
    tally: Tally,
    work: Work,
    /// Requests that may still be made.
    left: u64,
}

impl Load {
    /// Runs it to its end.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for an address that cannot be asked.
    pub(super) fn run(&self, work: Work, output: &Output) -> Result<Tally> {
        let mut runtime = match self.threads {
            1 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = runtime
            .worker_threads(self.threads)
            .enable_all()
            .build()
            .map_err(|e| Error::new(Code::Internal, "the runtime cannot start").because(e))?;
        let way = self.way()?;
        let progress = output.progress("asking", (self.warm_up + self.measured).as_secs().max(1));
        let tally = runtime.block_on(self.asking(way, (work, Tally::new()?), &progress));
        progress.done();
        Ok(tally)
    }

    fn way(&self) -> Result<Way> {
        let impossible = |what: &str| Error::new(Code::InvalidRequest, format!("{what} cannot be sent"));
        let place = |server: &Uri| {
            let host = server.host().unwrap_or_default().trim_matches(['[', ']']);
            let tls = self.tls.as_ref().filter(|_| server.scheme_str() == Some("https"));
            let name = ServerName::try_from(host.to_owned());
            let encrypted = |config: &Arc<ClientConfig>| name.map(|name| (config.clone().into(), name));
            let authority = server.authority().map(ToString::to_string).unwrap_or_default();
            Ok(Place {
                host: host.to_owned(),
                port: server.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 }),
                tls: tls.map(encrypted).transpose().map_err(|_| impossible("the address"))?,
                authority: HeaderValue::try_from(authority).map_err(|_| impossible("the address"))?,
            })
        };
        Ok(Way {
            in_process: self.in_process.clone(),
            places: self.servers.iter().map(place).collect::<Result<_>>()?,
            path: self.path.parse().map_err(|_| impossible("the model's name"))?,
            key: self.key.as_ref().map(ServerKey::authorization),
            form: self.form,
            retries: self.retries,
        })
    }

    async fn asking(&self, way: Way, (work, tally): (Work, Tally), progress: &Progress) -> Tally {
        let begin = Instant::now() + self.warm_up;
        let shared = Arc::new(Shared {
            way,
            begin,
            end: begin + self.measured,
            timeout: self.timeout,
            within: self.within,
            due: Mutex::default(),
            bell: Notify::new(),
            heard: Mutex::new(Heard { tally, work, left: self.requests_max }),
        });
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..self.connections {
            match self.pace {
                Pace::Closed => asking.spawn(shared.clone().ask_again_and_again(number)),
                Pace::Open { .. } => asking.spawn(shared.clone().ask_what_is_due(number)),
            };
        }
        if let Pace::Open { rate, arrivals } = self.pace {
            let (shared, seed) = (shared.clone(), self.seed);
            // A thread of its own: the runtime's clock has milliseconds.
            asking.spawn_blocking(move || shared.make_due(rate, arrivals, seed));
        }
        let showing = show(&shared, progress);
        let own = own_share(&shared);
        let finished = async { while asking.join_next().await.is_some() {} };
        let own_share = tokio::select! {
            () = showing => 0.0,
            ((), own_share) = async { tokio::join!(finished, own) } => own_share,
        };
        let mut heard = shared.heard();
        heard.tally.took = shared.begin.elapsed();
        heard.tally.own_share = own_share;
        heard.tally.clone()
    }
}

impl Shared {
    fn heard(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn due(&self) -> std::sync::MutexGuard<'_, Due> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request, unless enough were made.
    fn next_ask(&self) -> Option<Ask> {
        let mut heard = self.heard();
        if self.begin <= Instant::now() {
            heard.left = heard.left.checked_sub(1)?;
        }
        Some(heard.work.next())
    }

    async fn ask_again_and_again(self: Arc<Self>, number: usize) {
        let mut connection = Connection::new(number, &self.way);
        while Instant::now() < self.end {
            let Some(ask) = self.next_ask() else { return };
            let due = Instant::now();
            if !self.ask(&mut connection, due, ask).await {
                // Whoever cannot be reached is not asked a thousand times a second.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn ask_what_is_due(self: Arc<Self>, number: usize) {
        let mut connection = Connection::new(number, &self.way);
        loop {
            let rung = self.bell.notified();
            let next = {
                let mut due = self.due();
                match due.waiting.pop_front() {
                    Some(next) => Some(next),
                    None if due.over => return,
                    None => None,
                }
            };
            match next {
                Some((at, ask)) => {
                    self.ask(&mut connection, at, ask).await;
                }
                None => rung.await,
            }
        }
    }

    /// Asks, and notes what came of it when the request was due in the time that counts. Whether there was an answer.
    async fn ask(&self, connection: &mut Connection, due: Instant, ask: Ask) -> bool {
        let waited = due.elapsed();
        let (outcome, sent) = match self.timeout.checked_sub(waited) {
            Some(left) => connection.ask(&self.way, &ask, left).await,
            None => (Outcome::Failed("no connection was free in time".to_owned()), 0),
        };
        let latency = due.elapsed();
        let reached = !matches!(outcome, Outcome::Failed(_));
        // What fails of the warm-up counts as well when it took until now: nothing could be asked meanwhile.
        if self.begin <= due || (!reached && self.begin <= Instant::now()) {
            let good = self.within.is_none_or(|within| latency <= within);
            let mut heard = self.heard();
            heard.tally.note_sent(&outcome, sent);
            heard.tally.note(outcome, self.begin.elapsed(), latency, waited, good);
        }
        reached
    }

    /// Makes requests due at their times.
    fn make_due(&self, rate: f64, arrivals: Arrivals, seed: u64) {
        // The kernel commonly wakes threads up to 50 µs late, to wake several at once. Where it must, times are longer by it.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let mut at = Instant::now();
        while at < self.end {
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let Some(ask) = self.next_ask() else { break };
            self.make_one_due(at, ask);
            let gap = match arrivals {
                Arrivals::Even => 1.0,
                // The gaps of independent arrivals are distributed exponentially.
                Arrivals::Poisson => -(1.0 - chance.random::<f64>()).ln(),
            };
            at += Duration::from_secs_f64(gap / rate);
        }
        self.due().over = true;
        self.bell.notify_waiters();
    }

    fn make_one_due(&self, at: Instant, ask: Ask) {
        let mut due = self.due();
        if DUE_MAX <= due.waiting.len() {
            drop(due);
            let failed = Outcome::Failed("not asked: too many were due".to_owned());
            self.heard().tally.note(
                failed,
                at.saturating_duration_since(self.begin),
                Duration::ZERO,
                Duration::ZERO,
                false,
            );
            return;
        }
        due.waiting.push_back((at, ask));
        drop(due);
        self.bell.notify_one();
    }
}

/// The share of a processor that this program uses while requests are made.
async fn own_share(shared: &Shared) -> f64 {
    tokio::time::sleep_until(shared.begin).await;
    let before = processor_time();
    while shared.heard().left != 0 && Instant::now() < shared.end {
        tokio::time::sleep((shared.end - Instant::now()).min(SHOWN_EACH)).await;
    }
    (processor_time() - before).as_secs_f64() / shared.begin.elapsed().as_secs_f64().max(1e-9)
}

/// Shows how far it is, for ever.
async fn show(shared: &Shared, progress: &Progress) {
    let started = Instant::now();
    loop {
        tokio::time::sleep(SHOWN_EACH).await;
        progress.at(started.elapsed().as_secs());
        let (answered, waiting) = (shared.heard().tally.latency.len(), shared.due().waiting.len());
        match waiting {
            0 => progress.note(&format!("{answered} answers")),
            waiting => progress.note(&format!("{answered} answers, {waiting} wait")),
        }
    }
}
