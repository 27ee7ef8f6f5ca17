//! `cargo xtask codegen`: reference pages written from the code they describe.

mod errors;
mod limits;
mod scan_rules;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::process;

/// A generated file: its path and what it must hold.
struct Page {
    path: &'static str,
    text: String,
}

/// Writes the pages, or with `check` says which are out of date. The page of the command line comes from
/// `program`; without one it is left alone, because building it takes minutes and the others seconds.
pub(crate) fn run(root: &Path, check: bool, program: Option<&Path>) -> Result<ExitCode> {
    let limits = std::fs::read_to_string(root.join(limits::SOURCE)).context("failed to read the limits")?;
    let mut pages = vec![
        Page { path: "docs/reference/errors.md", text: errors::page() },
        Page { path: "docs/reference/limits.md", text: limits::page(&limits)? },
        Page { path: "docs/reference/scan-rules.md", text: scan_rules::page() },
    ];
    if let Some(program) = program {
        let text = process::output(Command::new(program).arg("reference"))?;
        pages.push(Page { path: "docs/reference/cli.md", text });
    }
    let mut stale = 0;
    for page in &pages {
        let path = root.join(page.path);
        if std::fs::read_to_string(&path).is_ok_and(|text| text == page.text) {
            continue;
        }
        stale += 1;
        if check {
            println!("{} is out of date", page.path);
        } else {
            write(&path, &page.text).with_context(|| format!("failed to write {}", page.path))?;
            println!("wrote {}", page.path);
        }
    }
    if check && stale > 0 {
        let program = program.map(|p| format!(" --program {}", p.display())).unwrap_or_default();
        println!("hint: `cargo xtask codegen{program}` writes them");
        return Ok(ExitCode::FAILURE);
    }
    println!(
        "codegen: {} pages {}",
        pages.len(),
        if check { "are up to date" } else { "written or up to date" }
    );
    Ok(ExitCode::SUCCESS)
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, text)
}

#[cfg(test)]
mod tests;
