//! Calls about rollouts.

use super::{Client, segment};
use crate::Result;
use crate::api::{NewRollout, RolledBack, Rollout, RolloutOrder};

impl Client {
    /// Begins a rollout.
    pub fn begin_rollout(&self, model: &str, new: &NewRollout) -> Result<Rollout> {
        self.send("POST", &format!("/api/v1/rollouts/{}", segment(model)), new)
    }

    /// The last rollout of a model, with what it counted in its step.
    pub fn rollout(&self, model: &str) -> Result<Rollout> {
        self.get(&format!("/api/v1/rollouts/{}", segment(model)))
    }

    /// The last rollout of every model.
    pub fn rollouts(&self) -> Result<Vec<Rollout>> {
        self.get("/api/v1/rollouts")
    }

    /// Pauses, resumes, promotes or aborts the model's rollout.
    pub fn order_rollout(&self, model: &str, order: RolloutOrder) -> Result<Rollout> {
        let path = format!("/api/v1/rollouts/{}/{}", segment(model), order.as_str());
        self.send("POST", &path, &serde_json::json!({}))
    }

    /// Lets the version serve that did before: aborts a rollout under way, else moves the alias back.
    pub fn roll_back(&self, model: &str) -> Result<RolledBack> {
        let path = format!("/api/v1/deployments/{}/rollback", segment(model));
        self.send("POST", &path, &serde_json::json!({}))
    }
}
