//! Commands about models and versions after they were published: `bms model`, `bms stage`, `bms retention`.

use bms_wire::api::{NewTransition, RetentionRule, StageRule, Transition, TransitionState, VersionName};
use bms_wire::client::{Client, Target};
use bms_wire::{Code, Error, Result};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::api_key::ApiKeyOption;
use crate::output::{self, Output};

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Which server, and who asks it.
#[derive(Clone, Debug, Args)]
pub(crate) struct PersonOption {
    /// Who does this, for the audit log; at a server that needs keys it is the key's name [default: this system's user].
    #[arg(long, env = "BMS_PERSON", value_name = "NAME", global = true)]
    by: Option<String>,
    /// The server's address.
    #[arg(
        long,
        env = "BMS_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    server: String,
    #[command(flatten)]
    key: ApiKeyOption,
}

impl PersonOption {
    /// A client of it, in this person's name.
    pub(crate) fn client(&self) -> Result<Client> {
        let user = || std::env::var("USER").ok().filter(|user| !user.is_empty());
        let client = self.key.client(&self.server)?;
        Ok(match self.by.clone().or_else(user) {
            Some(name) => client.as_person(&name),
            None => client,
        })
    }
}

/// `NAME` or `NAME@VERSION`.
pub(crate) fn target(text: &str) -> std::result::Result<Target, String> {
    match text.split_once('@') {
        None => Ok(Target { model: text.to_owned(), version: None }),
        Some((model, version)) => match version.parse() {
            Ok(version) => Ok(Target { model: model.to_owned(), version: Some(version) }),
            Err(_) => Err("expected NAME or NAME@VERSION, with the version's number".to_owned()),
        },
    }
}

fn version(text: &str) -> std::result::Result<VersionName, String> {
    match target(text)? {
        Target { model, version: Some(version) } => Ok(VersionName { model, version }),
        _ => Err("expected NAME@VERSION".to_owned()),
    }
}

/// A number of days, such as `30` or `30d`, in milliseconds.
fn days(text: &str) -> std::result::Result<i64, String> {
    let number: f64 =
        text.trim_end_matches('d').parse().map_err(|_| "expected days, such as 30d".to_owned())?;
    match (0.0..100_000.0).contains(&number) {
        true => Ok((number * DAY_MS as f64) as i64),
        false => Err("expected a number of days, not below zero".to_owned()),
    }
}

fn shown(target: &Target) -> String {
    match target.version {
        Some(version) => format!("{}@{version}", target.model),
        None => target.model.clone(),
    }
}

/// Options of `bms model`.
#[derive(Debug, Args)]
pub(crate) struct Model {
    #[command(subcommand)]
    action: ModelAction,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Subcommand)]
enum ModelAction {
    /// Say what a model or version is for.
    Describe {
        /// NAME or NAME@VERSION.
        #[arg(value_parser = target)]
        target: Target,
        /// The description.
        text: String,
    },
    /// Give a model or version a tag.
    Tag {
        /// NAME or NAME@VERSION.
        #[arg(value_parser = target)]
        target: Target,
        /// KEY=VALUE.
        tag: String,
    },
    /// Take a tag away.
    Untag {
        /// NAME or NAME@VERSION.
        #[arg(value_parser = target)]
        target: Target,
        /// The tag's key.
        key: String,
    },
    /// Delete a model or version; it can be restored. Refused while anything uses it.
    Delete {
        /// NAME or NAME@VERSION.
        #[arg(value_parser = target)]
        target: Target,
    },
    /// Restore what was deleted; without a name, list what can be.
    Restore {
        /// NAME or NAME@VERSION.
        #[arg(value_parser = target)]
        target: Option<Target>,
    },
    /// Let the files of a deleted version go, for good.
    Purge {
        /// NAME@VERSION.
        #[arg(value_parser = version)]
        of: VersionName,
    },
    /// Find versions with a filter, such as `name LIKE 'dig%' and tags.team = 'vision' and version_number > 3`.
    Find {
        /// The filter.
        filter: String,
        /// By what to order, such as `creation_timestamp DESC`.
        #[arg(long, default_value = "")]
        order: String,
    },
}

impl Model {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        let (what, target) = match self.action {
            ModelAction::Describe { target, text } => {
                client.describe(&target, &text)?;
                ("described", target)
            }
            ModelAction::Tag { target, tag } => {
                let (key, value) = tag
                    .split_once('=')
                    .ok_or_else(|| Error::new(Code::InvalidRequest, format!("`{tag}` is not KEY=VALUE")))?;
                client.tag(&target, key, value)?;
                ("tagged", target)
            }
            ModelAction::Untag { target, key } => {
                client.untag(&target, &key)?;
                ("untagged", target)
            }
            ModelAction::Delete { target } => {
                client.delete_target(&target)?;
                ("deleted", target)
            }
            ModelAction::Restore { target: Some(target) } => {
                client.restore(&target)?;
                ("restored", target)
            }
            ModelAction::Restore { target: None } => return list_deleted(&client, output),
            ModelAction::Purge { of } => {
                client.purge(&of)?;
                ("purged", Target { model: of.model, version: Some(of.version) })
            }
            ModelAction::Find { filter, order } => return find(&client, &filter, &order, output),
        };
        let result = json!({ "model": target.model, "version": target.version, "done": what });
        output.result(format_args!("{} is {what}", shown(&target)), &result);
        Ok(())
    }
}

fn list_deleted(client: &Client, output: &Output) -> Result<()> {
    let models = client.deleted_models()?;
    let mut table = output::table(&["model", "deleted", "versions deleted"]);
    for model in &models {
        let versions: Vec<String> =
            model.versions.iter().map(|version| version.version.to_string()).collect();
        let whole = if model.deleted_ms.is_some() { "yes" } else { "" };
        table.add_row([model.name.clone(), whole.to_owned(), versions.join(", ")]);
    }
    output.result(table, &models);
    Ok(())
}

fn find(client: &Client, filter: &str, order: &str, output: &Output) -> Result<()> {
    let mut versions = Vec::new();
    let mut next = Some(0);
    while let Some(offset) = next {
        let page = client.search_versions(filter, order, offset)?;
        versions.extend(page.items);
        next = page.next;
    }
    let mut table = output::table(&["version", "stage", "aliases", "size", "tags", "description"]);
    for version in &versions {
        let tags: Vec<String> = version.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.add_row([
            format!("{}@{}", version.model, version.version),
            version.stage.clone(),
            version.aliases.join(", "),
            output::bytes(version.size_bytes),
            tags.join(", "),
            version.description.clone(),
        ]);
    }
    output.result(table, &versions);
    Ok(())
}

/// Options of `bms stage`.
#[derive(Debug, Args)]
pub(crate) struct Stage {
    #[command(subcommand)]
    action: StageAction,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Subcommand)]
enum StageAction {
    /// Ask for a version to enter a stage; it does at once when nobody has to agree.
    Request {
        /// NAME@VERSION.
        #[arg(value_parser = version)]
        of: VersionName,
        /// none, staging, production, archived, or another word.
        stage: String,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
        /// Send the other versions in the stage to `archived`.
        #[arg(long)]
        archive_others: bool,
    },
    /// Agree to a transition that somebody else asked for.
    Approve {
        /// The transition's number.
        id: u64,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// Refuse a transition.
    Reject {
        /// The transition's number.
        id: u64,
        /// Why.
        #[arg(long, default_value = "")]
        comment: String,
    },
    /// List transitions; only those that wait for people unless --all.
    List {
        /// Of this model.
        #[arg(long)]
        model: Option<String>,
        /// Decided ones too.
        #[arg(long)]
        all: bool,
    },
    /// Say how many people have to agree before a version enters a stage; without a stage, list the rules.
    Rule {
        /// The stage.
        #[arg(requires = "approvals")]
        stage: Option<String>,
        /// How many, apart from the one who asks.
        approvals: Option<u64>,
        /// For this model only.
        #[arg(long)]
        model: Option<String>,
    },
}

impl Stage {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        let transition = match self.action {
            StageAction::Request { of, stage, comment, archive_others } => {
                client.request_transition(&of, &NewTransition { stage, comment, archive_others })?
            }
            StageAction::Approve { id, comment } => client.decide_transition(id, true, &comment)?,
            StageAction::Reject { id, comment } => client.decide_transition(id, false, &comment)?,
            StageAction::List { model, all } => {
                return list_transitions(&client.transitions(model.as_deref(), !all)?, output);
            }
            StageAction::Rule { stage: Some(stage), approvals: Some(approvals), model } => {
                let rule = client.set_stage_rule(&StageRule { model, stage, approvals })?;
                let text = format!("{} needs {} approvals", rule.stage, rule.approvals);
                output.result(text, &rule);
                return Ok(());
            }
            StageAction::Rule { .. } => return list_rules(&client.stage_rules()?, output),
        };
        output.result(said(&transition), &transition);
        Ok(())
    }
}

fn said(transition: &Transition) -> String {
    let Transition { id, model, version, to, .. } = transition;
    match transition.state {
        TransitionState::Done => format!("{model}@{version} is in {to}"),
        TransitionState::Rejected => format!("transition {id} of {model}@{version} to {to} is rejected"),
        TransitionState::Outdated => format!("transition {id} of {model}@{version} to {to} is outdated"),
        TransitionState::Pending => {
            let (have, need) = (transition.approved_by.len(), transition.approvals_needed);
            format!("transition {id} of {model}@{version} to {to} has {have} of {need} approvals")
        }
    }
}

fn list_transitions(transitions: &[Transition], output: &Output) -> Result<()> {
    let mut table =
        output::table(&["#", "version", "from", "to", "state", "asked by", "approved by", "needs"]);
    for transition in transitions {
        table.add_row([
            transition.id.to_string(),
            format!("{}@{}", transition.model, transition.version),
            transition.from.clone(),
            transition.to.clone(),
            format!("{:?}", transition.state).to_lowercase(),
            transition.requested_by.clone(),
            transition.approved_by.join(", "),
            transition.approvals_needed.to_string(),
        ]);
    }
    output.result(table, &transitions);
    Ok(())
}

fn list_rules(rules: &[StageRule], output: &Output) -> Result<()> {
    let mut table = output::table(&["model", "stage", "approvals"]);
    for rule in rules {
        let model = rule.model.clone().unwrap_or_else(|| "(all)".to_owned());
        table.add_row([model, rule.stage.clone(), rule.approvals.to_string()]);
    }
    output.result(table, &rules);
    Ok(())
}

/// Options of `bms retention`.
#[derive(Debug, Args)]
pub(crate) struct Retention {
    #[command(subcommand)]
    action: RetentionAction,
    #[command(flatten)]
    person: PersonOption,
}

#[derive(Debug, Subcommand)]
enum RetentionAction {
    /// List the rules.
    Show,
    /// Set the rule of a model, or of all that have none of their own.
    Set {
        /// For this model only.
        #[arg(long)]
        model: Option<String>,
        /// How many of the latest versions stay in any case.
        #[arg(long, value_name = "N")]
        keep_last: u64,
        /// Only versions older than this go, in days.
        #[arg(long, value_name = "DAYS", value_parser = days)]
        older_than: i64,
        /// Purge versions that were deleted longer ago than this, in days; without it none is.
        #[arg(long, value_name = "DAYS", value_parser = days)]
        purge_after: Option<i64>,
    },
    /// Remove a rule.
    Remove {
        /// Of this model.
        #[arg(long)]
        model: Option<String>,
    },
    /// Delete and purge what the rules let go. Nothing that an alias, deployment or edge node uses goes.
    Apply {
        /// Say what would go, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Retention {
    pub(crate) fn run(self, output: &Output) -> Result<()> {
        let client = self.person.client()?;
        match self.action {
            RetentionAction::Show => {
                let rules = client.retention_rules()?;
                let mut table = output::table(&["model", "keeps", "older than", "purged after"]);
                let days = |ms: i64| format!("{} d", ms / DAY_MS);
                for rule in &rules {
                    table.add_row([
                        rule.model.clone().unwrap_or_else(|| "(all)".to_owned()),
                        rule.keep_last.to_string(),
                        days(rule.older_than_ms),
                        rule.purge_after_ms.map_or("never".to_owned(), days),
                    ]);
                }
                output.result(table, &rules);
            }
            RetentionAction::Set { model, keep_last, older_than, purge_after } => {
                let rule = RetentionRule {
                    model,
                    keep_last,
                    older_than_ms: older_than,
                    purge_after_ms: purge_after,
                };
                let rule = client.set_retention(&rule)?;
                output.result("the rule is set; `bms retention apply --dry-run` says what it does", &rule);
            }
            RetentionAction::Remove { model } => {
                client.remove_retention(model.as_deref())?;
                output.result("the rule is removed", &json!({ "model": model, "removed": true }));
            }
            RetentionAction::Apply { dry_run } => {
                let report = client.apply_retention(dry_run)?;
                let mut table = output::table(&["version", "what", "because"]);
                let would = if dry_run { "would be " } else { "" };
                for (what, versions) in [("deleted", &report.deleted), ("purged", &report.purged)] {
                    for of in versions {
                        let name = format!("{}@{}", of.model, of.version);
                        table.add_row([name, format!("{would}{what}"), String::new()]);
                    }
                }
                for kept in &report.kept {
                    let name = format!("{}@{}", kept.model, kept.version);
                    table.add_row([name, "stays".to_owned(), kept.because.join(", ")]);
                }
                output.result(table, &report);
            }
        }
        Ok(())
    }
}
