//! `bms quarantine`: what a server refused, and what becomes of it.

use bms_bundle::{Action, Order, time_text};
use bms_wire::Result;
use bms_wire::api::SignedOrder;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cmd::registry::ServerOption;
use crate::home::Home;
use crate::output::{self, Output};

/// Options of `bms quarantine`.
#[derive(Debug, Args)]
pub(crate) struct Quarantine {
    #[command(subcommand)]
    action: Option<QuarantineAction>,
    #[command(flatten)]
    server: ServerOption,
}

#[derive(Debug, Subcommand)]
enum QuarantineAction {
    /// List what was refused, the latest first (the default).
    List,
    /// Show one of them with its files.
    Show {
        /// Its id.
        id: String,
    },
    /// Pass it through the gate again, and publish it if the server's policy admits it by now.
    Release(Decision),
    /// Delete its files. What was refused and why stays in the audit log.
    Purge(Decision),
}

#[derive(Debug, Args)]
struct Decision {
    /// Its id.
    id: String,
    /// Why; goes to the audit log.
    #[arg(long)]
    reason: String,
}

impl Quarantine {
    pub(crate) fn run(self, home: &Home, output: &Output) -> Result<()> {
        let client = self.server.client()?;
        let order = |action, decision: &Decision| -> Result<SignedOrder> {
            let order = Order::write(action, &decision.id, &decision.reason, &home.signing_key()?)?;
            Ok(SignedOrder { order: String::from_utf8_lossy(&order).into_owned() })
        };
        match self.action.unwrap_or(QuarantineAction::List) {
            QuarantineAction::List => {
                let all = client.quarantine()?;
                let mut table = output::table(&["id", "model", "code", "when", "reason"]);
                for one in &all {
                    let when = time_text(one.at_ms);
                    table.add_row([&one.id, &one.model, one.code.as_str(), &when, &one.reason]);
                }
                output.result(table, &all);
            }
            QuarantineAction::Show { id } => {
                let one = client.quarantined(&id)?;
                let mut text = format!(
                    "{} of {}, refused on {}\n{}: {}\nfiles {}",
                    one.about.id,
                    one.about.model,
                    time_text(one.about.at_ms),
                    one.about.code,
                    one.about.reason,
                    if one.files_kept { "kept" } else { "let go" },
                );
                for file in &one.files {
                    text.push_str(&format!("\n  {} {:?}", output::bytes(file.size), file.path));
                }
                output.result(text, &one);
            }
            QuarantineAction::Release(decision) => {
                let version =
                    client.release_quarantined(&decision.id, &order(Action::Release, &decision)?)?;
                output.result(
                    format_args!("{}@{} passed the gate and is registered", version.model, version.version),
                    &version,
                );
            }
            QuarantineAction::Purge(decision) => {
                client.purge_quarantined(&decision.id, &order(Action::Purge, &decision)?)?;
                output.result(format_args!("{} is deleted", decision.id), &json!({"purged": decision.id}));
            }
        }
        Ok(())
    }
}
