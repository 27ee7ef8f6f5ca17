//! Language models with a rollout: as `gateway::split` has it, for answers that stream as well.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bms_wire::Result;
use http::StatusCode;
use tokio::time::Instant;

use super::{Ask, Gateway, LOAD_ADAPTER, Target, UNLOAD_ADAPTER, whole};
use crate::gateway::Room;
use crate::gateway::record::Record;
use crate::gateway::split::FAULTS_FROM;
use crate::rollout::{Side, Trial};
use crate::slots::forwarded;
use crate::warm::Sample;

impl Gateway {
    /// Sends a request to the side it falls to. What the candidate does not begin to answer, the other version does.
    pub(super) async fn answer_language_split(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        target: &Target,
        record: &mut Option<Record>,
        room: &mut Option<Room>,
    ) -> Result<Response> {
        let is_split = target.version.is_none() && ask.path != LOAD_ADAPTER && ask.path != UNLOAD_ADAPTER;
        let trial = match is_split {
            true => self.rollouts.trial(&target.model, &ask.headers, ask.body),
            false => None,
        };
        let Some(trial) = trial else {
            let response = self.answer_or_remember(ask, target, record, room).await?;
            if is_split && response.status() == StatusCode::OK {
                self.fleet.warmth.keep(&target.model, || sample(ask), ask.body.len());
            }
            return Ok(response);
        };
        if let Some(record) = record {
            record.tries(trial.clone());
        }
        if trial.side == Side::Stable {
            let response = self.answer_language(ask, target, record, room).await?;
            return self.copy_language(&trial, ask, response, record.is_some()).await;
        }
        if self.candidate_pool(&trial).is_some() {
            let began = Instant::now();
            let version = Some(trial.split.rollout.candidate);
            let candidate = Target { model: target.model.clone(), version };
            // Half of the time is left for the other version.
            let until = began + ask.time.left() / 2;
            let asked = self.answer_language(ask, &candidate, record, room);
            let why = match tokio::time::timeout_at(until, asked).await {
                Ok(Ok(response)) if response.status().as_u16() < FAULTS_FROM => return Ok(response),
                Ok(Ok(response)) => format!("it answered with status {}", response.status()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "it did not begin to answer in time".to_owned(),
            };
            self.candidate_failed(&trial, &why, began.elapsed());
        }
        if let Some(record) = record {
            record.tries_nothing();
        }
        self.answer_language(ask, target, record, room).await
    }

    /// Queues a copy of a request whose answer is one document, which it still is when its record has not gone with it.
    async fn copy_language(
        &self,
        trial: &Trial,
        ask: &Ask<'_>,
        response: Response,
        is_whole: bool,
    ) -> Result<Response> {
        if response.status() != StatusCode::OK {
            return Ok(response);
        }
        self.fleet.warmth.keep(&trial.split.rollout.model, || sample(ask), ask.body.len());
        if !is_whole || !trial.split.wants_copy() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let served = http::Response::new(whole(body).await?);
        let body = Body::from(served.body().clone());
        self.copy(trial, Some(ask.path), &ask.headers, ask.body.clone(), &served);
        Ok(Response::from_parts(parts, body))
    }
}

fn sample(ask: &Ask<'_>) -> Sample {
    Sample { path: Some(ask.path.to_owned()), headers: forwarded(&ask.headers), body: ask.body.clone() }
}
