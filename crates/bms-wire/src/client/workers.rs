//! Calls about workers.

use super::{Client, segment};
use crate::Result;
use crate::api::{JoinToken, NewJoinToken, Placement, Worker};

impl Client {
    /// Every worker, by name.
    pub fn workers(&self) -> Result<Vec<Worker>> {
        self.get("/api/v1/workers")
    }

    /// Where every slot was placed, by model, version and number; without workers nothing is.
    pub fn placements(&self) -> Result<Vec<Placement>> {
        self.get("/api/v1/placements")
    }

    /// Makes a token by which workers join.
    pub fn create_join_token(&self, new: &NewJoinToken) -> Result<JoinToken> {
        self.send("POST", "/api/v1/workers/tokens", new)
    }

    /// Has a worker's slots placed elsewhere; it leaves when they have gone over.
    pub fn drain_worker(&self, name: &str) -> Result<Worker> {
        self.send("POST", &format!("/api/v1/workers/{}/drain", segment(name)), &serde_json::json!({}))
    }

    /// Has a worker that was to leave take slots again, if it has not left yet.
    pub fn resume_worker(&self, name: &str) -> Result<Worker> {
        self.send("POST", &format!("/api/v1/workers/{}/resume", segment(name)), &serde_json::json!({}))
    }

    /// Lets a worker in no more, and takes no more from it.
    pub fn revoke_worker(&self, name: &str) -> Result<Worker> {
        self.send("POST", &format!("/api/v1/workers/{}/revoke", segment(name)), &serde_json::json!({}))
    }
}
