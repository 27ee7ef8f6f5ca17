//! What a person or a machine sees: results on standard output, progress on standard error.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use bms_wire::Error;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

/// Columns of a table, at most; longer cells are wrapped.
const TABLE_COLUMNS_MAX: u16 = 110;

/// Where a command's words go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// For a person, or as JSON lines.
    pub(crate) fn new(json: bool) -> Self {
        Output { json }
    }

    /// Whether a machine reads.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// The outcome: text for a person, or one line of JSON.
    pub(crate) fn result(self, text: impl std::fmt::Display, value: &impl Serialize) {
        if self.json { self.line(value) } else { self.raw(&format!("{text}\n")) }
    }

    /// Something that happened on the way: a line on standard error, or an event in JSON.
    pub(crate) fn event(self, name: &str, text: impl std::fmt::Display, details: serde_json::Value) {
        if self.json {
            let mut event = json!({"event": name, "message": text.to_string()});
            if let (Some(event), serde_json::Value::Object(details)) = (event.as_object_mut(), details) {
                event.extend(details);
            }
            self.line(&event);
        } else {
            eprintln!("{text}");
        }
    }

    /// Something a person should know, on standard error in every form: a program that reads one JSON object gets one.
    pub(crate) fn warning(self, text: impl std::fmt::Display) {
        eprintln!("warning: {text}");
    }

    /// A failure: message and advice on standard error, or its JSON form as the last line.
    pub(crate) fn error(self, error: &Error) {
        if self.json {
            self.line(&error.body());
        }
        eprintln!("error: {error}");
        if let Some(hint) = error.advice() {
            eprintln!("hint:  {hint}");
        }
    }

    /// Text as it is on standard output. A closed pipe ends the program quietly, as it does others.
    pub(crate) fn raw(self, text: &str) {
        let mut stdout = std::io::stdout().lock();
        if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
            std::process::exit(0);
        }
    }

    /// Progress over `total` steps of `what`.
    pub(crate) fn progress(self, what: &str, total: u64) -> Progress {
        let bar = if !self.json && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len}  {eta} left")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = ProgressBar::new(total).with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            Some(bar)
        } else {
            None
        };
        let progress = Progress { bar, what: what.to_owned(), output: self };
        progress.note(what);
        progress
    }

    fn line(self, value: &impl Serialize) {
        // A value that cannot be written would be a fault of this program; say so in the same form.
        let line = serde_json::to_string(value)
            .unwrap_or_else(|e| json!({"error": e.to_string(), "code": "internal"}).to_string());
        self.raw(&format!("{line}\n"));
    }
}

/// A bar on a terminal, events in JSON, silence in a log file.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    output: Output,
}

impl Progress {
    /// `done` steps are done.
    pub(crate) fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// There are `total` steps.
    pub(crate) fn span(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// Says more beside the bar.
    pub(crate) fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// An event of this work for a machine.
    pub(crate) fn event(&self, details: serde_json::Value) {
        if self.output.is_json() {
            self.output.event("progress", &self.what, details);
        }
    }

    /// Ends it.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A table with these column names.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(TABLE_COLUMNS_MAX);
    table
}

/// A number of files for people.
pub(crate) fn files(n: usize) -> String {
    format!("{n} file{}", if n == 1 { "" } else { "s" })
}

/// Bytes for people.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A share as percent with two digits.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}
