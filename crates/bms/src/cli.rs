//! The command line: what can be asked.

use std::path::PathBuf;

use bms_wire::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::cmd;
use crate::home::Home;
use crate::output::Output;

/// AI-BMS: a model's whole life in one program.
///
/// data → augment → train → evaluate → compress → sign → register → serve → watch → edge → back to data.
/// `bms demo` shows all of it on real data in about a minute.
#[derive(Debug, Parser)]
#[command(name = "bms", version, max_term_width = 110, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print JSON: events as lines, the result as the last line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Folder with keys and trust policy [default: ~/.bms].
    #[arg(long, global = true, env = "BMS_HOME", value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole loop on handwritten digits, then leave server and dashboard running.
    Demo(cmd::demo::Demo),
    /// Write a data set of augmented pictures.
    Augment(cmd::augment::Augment),
    /// Train a classifier from class folders of pictures or a CSV; the result is a signed bundle.
    Train(cmd::train::Train),
    /// Measure a bundle on a data set: accuracy, per-class scores, confusion matrix, calibration.
    Evaluate(cmd::evaluate::Evaluate),
    /// Quantise a bundle to int8; refused when quality drops more than allowed.
    Compress(cmd::compress::Compress),
    /// Turn a language model into a GGUF file of another format: quantise it, or a folder into one file.
    Convert(cmd::convert::Convert),
    /// Make a signed bundle of an ONNX file, a GGUF file or a Hugging Face folder.
    Package(cmd::package::Package),
    /// Sign a bundle (again) with the home folder's key.
    Sign(cmd::trust::Sign),
    /// Approve a bundle: sign the same files as somebody else than its publisher.
    Approve(cmd::trust::Approve),
    /// Encrypt a bundle so that only those it is sealed for can load it.
    Seal(cmd::seal::Seal),
    /// Write a sealed bundle out in plain.
    Unseal(cmd::seal::Unseal),
    /// Change who can open a sealed bundle, without rewriting its data.
    Rekey(cmd::seal::Rekey),
    /// Lend a sealed bundle's key to an edge node for a time.
    Lease(cmd::seal::Lease),
    /// Pass a bundle through the load gate and say what it found.
    Verify(cmd::trust::Verify),
    /// Scan files, folders or versions in a registry for code and hostile constructs, without loading them.
    Scan(cmd::scan::Scan),
    /// Show this home folder's keys; make, list, change and revoke keys for the callers of a server.
    Key(cmd::key::Key),
    /// Say whose models may be published and loaded: add, list, rotate and revoke publishers' keys.
    Trust(cmd::trust::Trust),
    /// Fetch a model from a Hugging Face hub, an OCI registry, a web server or a folder: verified, scanned, whole.
    Pull(cmd::pull::Pull),
    /// Send a bundle to a server's registry as a new version.
    Push(cmd::push::Push),
    /// List the models and versions of a server's registry.
    Models(cmd::registry::Models),
    /// Point an alias at a version, through the evaluation gate when asked.
    Promote(cmd::registry::Promote),
    /// Keep the version an alias points at loaded and serving, or let another version take over step by step.
    Deploy(cmd::rollout::Deploy),
    /// List what is deployed, with how many slots.
    Deployments(cmd::deployments::Deployments),
    /// List the slot processes of a server and the memory they take.
    Slots(cmd::deployments::Slots),
    /// Show how a rollout stands; pause, resume, promote or abort it.
    Rollout(cmd::rollout::RolloutCommand),
    /// Let the version serve that did before, at once.
    Rollback(cmd::rollout::Rollback),
    /// Describe, tag, find, delete, restore and purge models and versions of a server's registry.
    Model(cmd::lifecycle::Model),
    /// Move versions between stages, with the approvals the rules ask for.
    Stage(cmd::lifecycle::Stage),
    /// Say which versions may go by themselves, and let them go.
    Retention(cmd::lifecycle::Retention),
    /// Show where a version comes from and what came of it.
    Lineage(cmd::lineage::Lineage),
    /// Show, check or export a server's audit log.
    Audit(cmd::audit::Audit),
    /// List, show, release or purge what a server refused.
    Quarantine(cmd::quarantine::Quarantine),
    /// Read all of a server's store, find what rotted, and repair it from another store.
    Scrub(cmd::store::Scrub),
    /// Remove from a server's store what no version needs.
    Gc(cmd::store::Gc),
    /// Run the server: registry, slots, gateway, metrics and dashboard.
    Up(cmd::serve::Up),
    /// Keep workers running on machines that a scheduler hands out.
    Launch(cmd::launch::Launch),
    /// Serve one model over HTTP, without a registry: a bundle, a GGUF file or a Hugging Face folder.
    Serve(cmd::serve::Serve),
    /// Run a slot process; started by the server.
    #[command(hide = true)]
    Slot(cmd::serve::Slot),
    /// Run an external engine and end with whoever started it; started by the server.
    #[command(hide = true)]
    KeepEngine(cmd::serve::KeepEngine),
    /// Talk to a language model: a file, a bundle, or a server's.
    Chat(cmd::chat::Chat),
    /// Answer from the command line: pictures, rows or tensors in, labelled answers out.
    Predict(cmd::predict::Predict),
    /// Run an edge node: answers locally and offline, sends hard samples to the centre.
    Edge(cmd::edge::Edge),
    /// Machines that run slots for a server: join, list, drain, resume, revoke.
    Node(cmd::node::Node),
    /// Label the hard samples of the edge with a larger served model; writes a data set.
    Label(cmd::label::Label),
    /// Measure the speed of language models and of this machine.
    Bench(cmd::bench::Bench),
    /// Say what this machine can do.
    Doctor(cmd::doctor::Doctor),
    /// Print the reference of all commands as Markdown.
    #[command(hide = true)]
    Reference,
}

/// Runs what was asked.
pub(crate) fn run(cli: Cli, output: &Output) -> Result<()> {
    let home = Home::new(cli.global.home);
    match cli.command {
        Command::Demo(args) => args.run(output),
        Command::Augment(args) => args.run(output),
        Command::Train(args) => args.run(&home, output),
        Command::Evaluate(args) => args.run(&home, output),
        Command::Compress(args) => args.run(&home, output),
        Command::Convert(args) => args.run(output),
        Command::Package(args) => args.run(&home, output),
        Command::Sign(args) => args.run(&home, output),
        Command::Approve(args) => args.run(&home, output),
        Command::Seal(args) => args.run(&home, output),
        Command::Unseal(args) => args.run(&home, output),
        Command::Rekey(args) => args.run(&home, output),
        Command::Lease(args) => args.run(&home, output),
        Command::Verify(args) => args.run(&home, output),
        Command::Scan(args) => args.run(output),
        Command::Key(args) => args.run(&home, output),
        Command::Trust(args) => args.run(&home, output),
        Command::Pull(args) => args.run(&home, output),
        Command::Push(args) => args.run(output),
        Command::Models(args) => args.run(output),
        Command::Promote(args) => args.run(output),
        Command::Deploy(args) => args.run(output),
        Command::Deployments(args) => args.run(output),
        Command::Slots(args) => args.run(output),
        Command::Rollout(args) => args.run(output),
        Command::Rollback(args) => args.run(output),
        Command::Model(args) => args.run(output),
        Command::Stage(args) => args.run(output),
        Command::Retention(args) => args.run(output),
        Command::Lineage(args) => args.run(output),
        Command::Audit(args) => args.run(&home, output),
        Command::Quarantine(args) => args.run(&home, output),
        Command::Scrub(args) => args.run(&home, output),
        Command::Gc(args) => args.run(&home, output),
        Command::Up(args) => args.run(&home, output),
        Command::Launch(args) => args.run(&home, output),
        Command::Serve(args) => args.run(&home, output),
        Command::Slot(args) => args.run(),
        Command::KeepEngine(args) => args.run(),
        Command::Chat(args) => args.run(&home, output),
        Command::Predict(args) => args.run(&home, output),
        Command::Edge(args) => args.run(&home, output),
        Command::Node(args) => args.run(&home, output),
        Command::Label(args) => args.run(output),
        Command::Bench(args) => args.run(&home, output),
        Command::Doctor(args) => args.run(&home, output),
        Command::Reference => {
            output.raw(&cmd::reference::markdown(Cli::command()));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
