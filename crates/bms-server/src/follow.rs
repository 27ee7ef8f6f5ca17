//! Keeping the fleet in step with the registry's deployments.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bms_registry::{Refusal, Registry, UnderWay};
use bms_wire::api::{Deployment, Scale, SlotNeeds};
use bms_wire::{Code, ErrorBody, Result};
use tokio::sync::Notify;

use crate::engines::{Engine, Engines, Runner};
use crate::event::{Event, ReconcileFailed};
use crate::fleet::{About, Fleet, Wanted};
use crate::nodes::{Known, Lead};
use crate::policy::PolicyWatch;
use crate::rollout::Driver;
use crate::slots::{Source, VersionName};

/// How often the registry is looked at without being told of a change: other programs write to it too.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The number of what is no version of the registry: those begin at 1.
const NO_VERSION: u64 = 0;

/// Refusals of a published version that concern its bytes or its publisher, rather than this machine.
const QUARANTINED: [Code; 6] = [
    Code::InvalidBundle,
    Code::Tampered,
    Code::SignatureInvalid,
    Code::SignerUntrusted,
    Code::MaliciousContent,
    Code::KeyRevoked,
];

/// Follows the registry for ever; to be dropped when the server stops.
pub(crate) async fn follow(
    registry: Registry,
    fleet: Arc<Fleet>,
    work_dir: PathBuf,
    changed: Arc<Notify>,
    mut policy: PolicyWatch,
    mut driver: Driver,
    mut lead: Option<Lead>,
) {
    loop {
        match step(&registry, &fleet, &work_dir, (&mut policy, &mut driver, lead.as_mut())).await {
            // What was decided is done at once.
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                ReconcileFailed { code: error.code(), why: &error.to_string() }.emit(&fleet.launcher.metrics);
            }
        }
        // Woken or not, the next step looks at everything.
        let _ = tokio::time::timeout(LOOK_EVERY, changed.notified()).await;
    }
}

async fn step(
    registry: &Registry,
    fleet: &Arc<Fleet>,
    work_dir: &std::path::Path,
    (policy, driver, lead): (&mut PolicyWatch, &mut Driver, Option<&mut Lead>),
) -> Result<bool> {
    policy.look(registry).await?;
    let under_way = driver.look().await?;
    let mut wanted = Vec::new();
    let engines = &fleet.launcher.launch.engines;
    let deployments = registry.deployments().await?;
    for deployment in deployments.iter().cloned() {
        let Some(version) = deployment.version else { continue };
        if policy.is_revoked(registry, &deployment).await? {
            continue;
        }
        let of = VersionName { model: deployment.model, version };
        wanted.push(Wanted {
            about: about(registry, fleet, &of).await?,
            of,
            alias: Some(deployment.alias),
            source: Source::Registry { registry: registry.clone(), into: work_dir.to_owned() },
            runner: engines.runner(deployment.engine.as_deref()),
            standby: false,
            scale: deployment.scale,
            needs: deployment.needs,
        });
    }
    for of in standbys(&under_way) {
        let deployment = Deployment {
            model: of.model.clone(),
            alias: String::new(),
            version: Some(of.version),
            engine: None,
            scale: Scale::default(),
            needs: SlotNeeds::default(),
            problem: None,
        };
        let deployed = deployments.iter().find(|deployment| deployment.model == of.model);
        let runner = engines.runner(deployed.and_then(|deployment| deployment.engine.as_deref()));
        let is_served = wanted.iter().any(|w: &Wanted| w.of == of);
        if is_served || policy.is_revoked(registry, &deployment).await? {
            continue;
        }
        let source = Source::Registry { registry: registry.clone(), into: work_dir.to_owned() };
        let of_model = deployed.map(|deployment| deployment.scale).unwrap_or_default();
        let needs = deployed.map(|deployment| deployment.needs).unwrap_or_default();
        // It is there to be asked at once.
        let scale = Scale { min_slots: of_model.min_slots.clamp(1, of_model.max_slots), ..of_model };
        let about = about(registry, fleet, &of).await?;
        wanted.push(Wanted { of, alias: None, source, runner, standby: true, scale, needs, about });
    }
    wanted.extend(served_by_engines(engines, &deployments));
    fleet.reconcile(&wanted);
    if let Some(lead) = lead {
        let needs =
            deployments.iter().map(|deployment| (deployment.model.clone(), deployment.needs)).collect();
        let kv_bytes = fleet.launcher.kv_bytes();
        lead.look(&Known { needs, seen: fleet.seen(), kv_bytes }).await?;
    }
    for (of, why) in fleet.fresh_refusals() {
        let details = serde_json::json!({ "code": why.code, "reason": why.error });
        registry.audit("slot.refused", &of.to_string(), details).await?;
        if QUARANTINED.contains(&why.code) {
            set_aside(registry, &of, why).await?;
        }
    }
    driver.lead(fleet, &under_way).await
}

/// What engines serve without a version of the registry. A model that is deployed passed the gate, and goes first.
fn served_by_engines(engines: &Engines, deployments: &[Deployment]) -> Vec<Wanted> {
    let wanted = |engine: &Arc<Engine>| {
        let model = engine.serves.clone()?;
        let is_free = !deployments.iter().any(|deployment| deployment.model == model);
        is_free.then(|| Wanted {
            of: VersionName { model, version: NO_VERSION },
            alias: None,
            source: Source::Engine,
            runner: Runner::Engine(engine.clone()),
            standby: false,
            scale: Scale::default(),
            needs: SlotNeeds::default(),
            about: None,
        })
    };
    engines.serving_all().filter_map(wanted).collect()
}

/// What is to be known of a version before it is started for the first time.
async fn about(registry: &Registry, fleet: &Fleet, of: &VersionName) -> Result<Option<About>> {
    if fleet.knows(of) {
        return Ok(None);
    }
    let version = registry.version(&of.model, of.version).await?;
    Ok(Some(About { bytes: version.size_bytes, task: version.task }))
}

/// Versions that are loaded without being served: candidates, and what was replaced a short while ago.
fn standbys(under_way: &UnderWay) -> Vec<VersionName> {
    let candidates = under_way.rollouts.iter().map(|rollout| (&rollout.model, rollout.candidate));
    let warm = under_way.warm.iter().map(|(model, version)| (model, *version));
    let mut all: Vec<_> = candidates.chain(warm).collect();
    all.sort();
    all.dedup();
    all.into_iter().map(|(model, version)| VersionName { model: model.clone(), version }).collect()
}

/// Copies a version that was published and is refused now into the quarantine. It stays where it is as well: it is
/// history, and no slot loads it.
async fn set_aside(registry: &Registry, of: &VersionName, why: ErrorBody) -> Result<()> {
    let version = registry.version(&of.model, of.version).await?;
    let refusal = Refusal {
        model: of.model.clone(),
        code: why.code,
        reason: why.error,
        findings: Vec::new(),
        files: version.files,
    };
    registry.quarantine(&refusal).await.map(drop)
}
