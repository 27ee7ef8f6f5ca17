//! Calls about models and versions after they were published.

use super::{CONTROL_TIMEOUT, Client, segment};
use crate::Result;
use crate::api::{
    ApplyRetention, Decision, Describe, Found, Lineage, Model, NewTransition, PERSON_HEADER, RetentionReport,
    RetentionRule, SetTag, StageRule, Transition, Version, VersionName,
};

/// A model, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The model.
    pub model: String,
    /// The version, when it is about one.
    pub version: Option<u64>,
}

impl Target {
    fn path(&self) -> String {
        match self.version {
            None => format!("/api/v1/models/{}", segment(&self.model)),
            Some(version) => format!("/api/v1/models/{}/versions/{version}", segment(&self.model)),
        }
    }
}

impl Client {
    /// The same client, whose requests say who makes them.
    #[must_use]
    pub fn as_person(mut self, name: &str) -> Self {
        self.person = Some(segment(name));
        self
    }

    /// Models that were deleted, or have versions that were.
    pub fn deleted_models(&self) -> Result<Vec<Model>> {
        self.get("/api/v1/models?deleted=true")
    }

    /// A page of the models that a filter holds of.
    pub fn search_models(&self, filter: &str, order: &str, offset: u64) -> Result<Found<Model>> {
        self.get(&search_path("models", filter, order, offset))
    }

    /// A page of the versions that a filter holds of.
    pub fn search_versions(&self, filter: &str, order: &str, offset: u64) -> Result<Found<Version>> {
        self.get(&search_path("versions", filter, order, offset))
    }

    /// Says what a model or version is for.
    pub fn describe(&self, target: &Target, description: &str) -> Result<()> {
        let body = Describe { description: description.to_owned() };
        self.send::<_, serde_json::Value>("PATCH", &target.path(), &body).map(drop)
    }

    /// Gives a model or version a tag.
    pub fn tag(&self, target: &Target, key: &str, value: &str) -> Result<()> {
        let path = format!("{}/tags/{}", target.path(), segment(key));
        let body = SetTag { value: value.to_owned() };
        self.send::<_, serde_json::Value>("PUT", &path, &body).map(drop)
    }

    /// Takes a tag away.
    pub fn untag(&self, target: &Target, key: &str) -> Result<()> {
        self.delete(&format!("{}/tags/{}", target.path(), segment(key)))
    }

    /// Deletes a model or version; it can be restored.
    pub fn delete_target(&self, target: &Target) -> Result<()> {
        self.delete(&target.path())
    }

    /// Restores what was deleted.
    pub fn restore(&self, target: &Target) -> Result<()> {
        self.post_empty(&format!("{}/restore", target.path()))
    }

    /// Lets the files of a deleted version go, for good.
    pub fn purge(&self, of: &VersionName) -> Result<()> {
        let target = Target { model: of.model.clone(), version: Some(of.version) };
        self.post_empty(&format!("{}/purge", target.path()))
    }

    /// Asks for a version to enter a stage.
    pub fn request_transition(&self, of: &VersionName, new: &NewTransition) -> Result<Transition> {
        let target = Target { model: of.model.clone(), version: Some(of.version) };
        self.send("POST", &format!("{}/transitions", target.path()), new)
    }

    /// Transitions, latest first.
    pub fn transitions(&self, model: Option<&str>, pending: bool) -> Result<Vec<Transition>> {
        let model = model.map_or(String::new(), |model| format!("&model={}", segment(model)));
        self.get(&format!("/api/v1/transitions?pending={pending}{model}"))
    }

    /// Agrees to a transition, or refuses it.
    pub fn decide_transition(&self, id: u64, approve: bool, comment: &str) -> Result<Transition> {
        let verb = if approve { "approve" } else { "reject" };
        let body = Decision { comment: comment.to_owned() };
        self.send("POST", &format!("/api/v1/transitions/{id}/{verb}"), &body)
    }

    /// The rules about stages.
    pub fn stage_rules(&self) -> Result<Vec<StageRule>> {
        self.get("/api/v1/stage-rules")
    }

    /// Says how many people have to agree before a version enters a stage.
    pub fn set_stage_rule(&self, rule: &StageRule) -> Result<StageRule> {
        self.send("PUT", "/api/v1/stage-rules", rule)
    }

    /// The rules about which versions go by themselves.
    pub fn retention_rules(&self) -> Result<Vec<RetentionRule>> {
        self.get("/api/v1/retention")
    }

    /// Sets such a rule.
    pub fn set_retention(&self, rule: &RetentionRule) -> Result<RetentionRule> {
        self.send("PUT", "/api/v1/retention", rule)
    }

    /// Removes such a rule.
    pub fn remove_retention(&self, model: Option<&str>) -> Result<()> {
        let model = model.map_or(String::new(), |model| format!("?model={}", segment(model)));
        self.delete(&format!("/api/v1/retention{model}"))
    }

    /// Deletes and purges what the rules let go, or says what they would.
    pub fn apply_retention(&self, dry_run: bool) -> Result<RetentionReport> {
        self.send("POST", "/api/v1/retention/apply", &ApplyRetention { dry_run })
    }

    /// Where a version comes from, and what came of it.
    pub fn lineage(&self, model: &str, version: &str) -> Result<Lineage> {
        self.get(&format!("/api/v1/models/{}/versions/{}/lineage", segment(model), segment(version)))
    }

    /// The versions that were trained on a data set.
    pub fn trained_on(&self, digest: &str) -> Result<Vec<VersionName>> {
        self.get(&format!("/api/v1/lineage/data/{}", segment(digest)))
    }

    fn delete(&self, path: &str) -> Result<()> {
        let mut request =
            self.agent.delete(self.url(path)).config().timeout_global(Some(CONTROL_TIMEOUT)).build();
        if let Some(person) = &self.person {
            request = request.header(PERSON_HEADER, person);
        }
        let response = request.call().map_err(|e| self.unreachable(e))?;
        self.check(response).map(drop)
    }

    fn post_empty(&self, path: &str) -> Result<()> {
        let mut request =
            self.agent.post(self.url(path)).config().timeout_global(Some(CONTROL_TIMEOUT)).build();
        if let Some(person) = &self.person {
            request = request.header(PERSON_HEADER, person);
        }
        let response = request.send_empty().map_err(|e| self.unreachable(e))?;
        self.check(response).map(drop)
    }
}

fn search_path(what: &str, filter: &str, order: &str, offset: u64) -> String {
    format!("/api/v1/search/{what}?filter={}&order={}&offset={offset}", segment(filter), segment(order))
}
