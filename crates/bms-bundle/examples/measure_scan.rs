//! Measures the scanner on a labelled folder: how much of what is malicious it finds, and how much
//! of what is benign it flags.
//!
//! `cargo run --release --example measure_scan -- FOLDER`, where `FOLDER/labels.json` is a list of
//! objects with at least `file`, `malicious` and `technique`.

use std::collections::BTreeMap;
use std::path::Path;

use bms_bundle::Severity;
use bms_bundle::scan::scan_file;

#[derive(serde::Deserialize)]
struct Label {
    file: String,
    malicious: bool,
    technique: String,
    format: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: measure_scan FOLDER")?;
    let folder = Path::new(&folder);
    let labels: Vec<Label> = serde_json::from_slice(&std::fs::read(folder.join("labels.json"))?)?;
    // Per kind of file: malicious found, malicious, benign flagged, benign.
    let mut table: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut micros = Vec::new();
    for label in &labels {
        let bytes = std::fs::read(folder.join(&label.file))?;
        let started = std::time::Instant::now();
        let scanned = scan_file(&label.file, &bytes);
        micros.push(started.elapsed().as_micros());
        let worst = scanned.findings.iter().max_by_key(|finding| finding.severity);
        let flagged = worst.is_some_and(|finding| Severity::Medium <= finding.severity);
        let row = table.entry(label.format.clone()).or_default();
        let (hit, all) = if label.malicious { (0, 1) } else { (2, 3) };
        row[hit] += usize::from(flagged);
        row[all] += 1;
        if flagged != label.malicious {
            let verdict = if flagged { "flagged" } else { "missed" };
            println!("{verdict}: {} ({}, {})", label.file, label.technique, scanned.format);
            scanned.findings.iter().for_each(|finding| println!("    {}: {finding}", finding.severity));
        }
    }
    println!("{:<14} {:>10} {:>10}", "kind", "found", "flagged");
    for (kind, [found, malicious, flagged, benign]) in &table {
        println!("{kind:<14} {:>10} {:>10}", format!("{found}/{malicious}"), format!("{flagged}/{benign}"));
    }
    let sum = |at: usize| table.values().map(|row| row[at]).sum::<usize>();
    println!(
        "{:<14} {:>10} {:>10}",
        "all",
        format!("{}/{}", sum(0), sum(1)),
        format!("{}/{}", sum(2), sum(3))
    );
    micros.sort_unstable();
    if let Some(last) = micros.last() {
        println!("microseconds: median {}, longest {last}", micros[micros.len() / 2]);
    }
    Ok(())
}
