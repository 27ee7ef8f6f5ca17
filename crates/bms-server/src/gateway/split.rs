//! Requests of a model with a rollout: the candidate answers its share, and whatever it does not answer well, the stable
//! version does. The caller of a request sees no failure of a version that is being tried.

use std::sync::Arc;
use std::time::Duration;

use bms_wire::Result;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::{Call, Gateway, Record};
use crate::event::{CandidateFailed, Event};
use crate::fleet::{Pool, Want};
use crate::rollout::{Copied, Side, Trial};
use crate::slots::{Broken, INFER, Lease, Unavailable, VersionName, for_slot, forwarded};
use crate::warm::Sample;

/// The first status that says that a request was not answered. Whether the version or the request is at fault shows when
/// the other version answers it, too.
pub(super) const FAULTS_FROM: u16 = 400;

/// What came of asking a slot once.
#[derive(Debug)]
pub(crate) enum Once {
    /// It takes no requests now; it was not asked.
    NotReady,
    /// There was no answer, and why.
    Failed(String),
    /// The answer, complete.
    Answered(http::Response<Bytes>),
}

impl Once {
    /// The answer, unless the version is at fault, or cannot take what it is given.
    pub(super) fn well(self) -> Result<Option<http::Response<Bytes>>, String> {
        match self {
            Once::NotReady => Ok(None),
            Once::Failed(why) => Err(why),
            Once::Answered(answer) => match answer.status() {
                status if FAULTS_FROM <= status.as_u16() => Err(format!("it answered with status {status}")),
                _ => Ok(Some(answer)),
            },
        }
    }
}

/// Asks a slot that was borrowed, without a second attempt: inference, or what `path` says of a language model.
pub(crate) async fn ask_once(
    leased: Result<Lease, Unavailable>,
    path: Option<&str>,
    headers: &HeaderMap,
    body: Bytes,
    deadline: Instant,
    hung_after: Duration,
) -> Once {
    let Ok(lease) = leased else { return Once::NotReady };
    let exchanged = match path {
        None => lease.infer(headers, &body, deadline, hung_after).await,
        Some(path) => match for_slot(Method::POST, path, headers, body) {
            Ok(request) => Box::pin(lease.exchange(request, deadline, hung_after)).await,
            Err(error) => return Once::Failed(error.to_string()),
        },
    };
    match exchanged {
        None => Once::Failed("it did not answer in time".to_owned()),
        Some(Err(Broken::Lost(why))) => Once::Failed(why),
        Some(Err(Broken::Refused(error))) => Once::Failed(error.to_string()),
        Some(Err(Broken::Oversized)) => Once::Failed("its answer is too large".to_owned()),
        Some(Ok(answer)) => Once::Answered(answer),
    }
}

impl Gateway {
    /// Has a slot answer a request that was let in: of the candidate when it falls to that and it answers well, else of
    /// the version that serves.
    pub(super) async fn ask_split(
        &self,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Result<http::Response<Bytes>> {
        let &Call { target, headers, ref body, .. } = call;
        if target.operation != INFER {
            return self.ask(call, record).await;
        }
        if target.version.is_some() {
            return self.ask_or_remember(call, record).await;
        }
        if let Some(trial) = self.rollouts.trial(target.model, headers, body) {
            return Box::pin(self.ask_tried(trial, call, record)).await;
        }
        let answer = self.ask_or_remember(call, record).await?;
        self.keep_sample(call, &answer);
        Ok(answer)
    }

    /// Keeps a request that was answered well for versions to come, which are warmed with it.
    fn keep_sample(&self, call: &Call<'_>, answer: &http::Response<Bytes>) {
        let &Call { target, headers, ref body, .. } = call;
        if answer.status() == StatusCode::OK {
            let sample = || Sample { path: None, headers: forwarded(headers), body: body.clone() };
            self.fleet.warmth.keep(target.model, sample, body.len());
        }
    }

    /// Has a slot answer a request of a model with a rollout.
    async fn ask_tried(
        &self,
        trial: Trial,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Result<http::Response<Bytes>> {
        let &Call { headers, ref body, .. } = call;
        if trial.side == Side::Candidate {
            if let Some(answer) = self.ask_candidate(&trial, call, record).await {
                return Ok(answer);
            }
            return self.ask(call, record).await;
        }
        record.tries(trial.clone());
        let answer = self.ask(call, record).await?;
        self.keep_sample(call, &answer);
        if answer.status() == StatusCode::OK && trial.split.wants_copy() {
            self.copy(&trial, None, headers, body.clone(), &answer);
        }
        Ok(answer)
    }

    /// The candidate's answer, if it is one. Half of the time is left for the other version.
    async fn ask_candidate(
        &self,
        trial: &Trial,
        call: &Call<'_>,
        record: &mut Record,
    ) -> Option<http::Response<Bytes>> {
        let pool = self.candidate_pool(trial)?;
        let began = Instant::now();
        let deadline = began + call.time.deadline().saturating_duration_since(began) / 2;
        let hung_after = self.fleet.launcher.launch.hung_after;
        let leased = pool.lease(Want { deadline, seated: true, prefix: None, avoid: None }).await;
        let asked = ask_once(leased, None, call.headers, call.body.clone(), deadline, hung_after);
        match asked.await.well() {
            Ok(None) => None,
            Ok(Some(answer)) => {
                record.answered_by(pool.of());
                record.tries(trial.clone());
                Some(answer)
            }
            Err(why) => {
                self.candidate_failed(trial, &why, began.elapsed());
                None
            }
        }
    }

    /// Counts and tells that the candidate did not answer a request that fell to it.
    pub(super) fn candidate_failed(&self, trial: &Trial, why: &str, took: Duration) {
        trial.count(StatusCode::BAD_GATEWAY.as_u16(), took);
        CandidateFailed { of: &candidate(trial), why }.emit(&self.metrics);
    }

    /// The candidate's slots, if they take requests now.
    pub(super) fn candidate_pool(&self, trial: &Trial) -> Option<Arc<Pool>> {
        self.fleet.ready_pool(&candidate(trial))
    }

    /// Queues a copy of an answered request for the candidate.
    pub(super) fn copy(
        &self,
        trial: &Trial,
        path: Option<&str>,
        headers: &HeaderMap,
        body: Bytes,
        served: &http::Response<Bytes>,
    ) {
        let (split, path, served) = (trial.split.clone(), path.map(str::to_owned), served.clone());
        self.rollouts.shadows.send(Copied { split, path, headers: forwarded(headers), body, served });
    }

    /// Has the candidate answer a copy. `None` when it takes no requests now.
    pub(crate) async fn ask_candidate_copy(
        &self,
        copied: &Copied,
        deadline: Instant,
    ) -> Option<Result<http::Response<Bytes>, String>> {
        let trial = Trial { split: copied.split.clone(), side: Side::Shadow };
        let pool = self.candidate_pool(&trial)?;
        let hung_after = self.fleet.launcher.launch.hung_after;
        let path = copied.path.as_deref();
        let leased = pool.lease(Want { deadline, seated: path.is_none(), prefix: None, avoid: None }).await;
        let asked = ask_once(leased, path, &copied.headers, copied.body.clone(), deadline, hung_after).await;
        asked.well().transpose()
    }
}

fn candidate(trial: &Trial) -> VersionName {
    let rollout = &trial.split.rollout;
    VersionName { model: rollout.model.clone(), version: rollout.candidate }
}
