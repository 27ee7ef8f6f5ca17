//! Commands, their results and their exit codes.

use bms_data::{Dataset, OpenOptions};
use bms_wire::Code;
use serde_json::json;

use crate::program::{bms, fails, ok, shared};

#[test]
fn augment_writes_a_data_set_that_depends_on_the_seed_alone() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, seed: &str, threads: &str| {
        let out = dir.path().join(name);
        let result = ok(bms(&shared.home())
            .arg("augment")
            .arg(shared.at("held-out"))
            .args(["--plan", "digits", "--copies", "2", "--seed", seed, "--threads", threads, "--out"])
            .arg(&out));
        let written = Dataset::open(&out, &OpenOptions::default()).unwrap();
        assert_eq!(result["digest"], json!(written.digest()));
        assert_eq!(result["samples"], json!(300));
        result["digest"].clone()
    };
    assert_eq!(run("a", "5", "1"), run("b", "5", "3"));
    assert_ne!(run("c", "5", "1"), run("d", "6", "1"));
}

#[test]
fn a_table_is_trained_evaluated_and_predicted() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let csv = dir.path().join("shapes.csv");
    // Two separable clouds.
    let mut text = "width,height,label\n".to_owned();
    for i in 0..200 {
        let noise = f64::from(i * 37 % 100) / 100.0;
        text.push_str(&format!("{},{},{}\n", noise, 1.0 - noise / 2.0, "low"));
        text.push_str(&format!("{},{},{}\n", noise + 3.0, 5.0 - noise, "high"));
    }
    std::fs::write(&csv, text).unwrap();
    let out = dir.path().join("model");
    let bundle = out.to_str().unwrap();
    ok(bms(&shared.home())
        .arg("train")
        .arg(&csv)
        .args(["--name", "shapes", "--epochs", "10", "--out", bundle]));
    let report = ok(bms(&shared.home()).args(["evaluate", bundle]).arg(&csv));
    assert!(0.99 <= report["accuracy"].as_f64().unwrap(), "{report}");
    let rows = dir.path().join("rows.csv");
    std::fs::write(&rows, "height,width\n4.5,3.4\n0.9,0.2\n").unwrap();
    let result = ok(bms(&shared.home()).arg("predict").arg(&rows).args(["--bundle", bundle]));
    let label = |i: usize| result["predictions"][i]["ranked"][0]["label"].clone();
    assert_eq!((label(0), label(1)), (json!("high"), json!("low")));
}

#[test]
fn compression_that_costs_too_much_is_refused() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    // One calibration sample of a blank picture tells nothing about the ranges.
    let mut blank = bms_data::digits().unwrap().take(1);
    blank.samples[0].image.pixels.fill(0);
    blank.save(&dir.path().join("blank")).unwrap();
    let out = dir.path().join("int8");
    let (exit, error) = fails(
        bms(&shared.home())
            .arg("compress")
            .arg(shared.at("fp32"))
            .arg("--calibration")
            .arg(dir.path().join("blank"))
            .arg("--evaluation")
            .arg(shared.at("held-out"))
            .args(["--max-drop", "0.005", "--out"])
            .arg(&out),
    );
    assert_eq!(
        (exit, &error["code"]),
        (i32::from(Code::QualityRefused.exit()), &json!("quality_refused")),
        "{error}"
    );
    assert!(!out.exists());
}

#[test]
fn evaluation_writes_its_picture_and_report() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let report = ok(bms(&shared.home())
        .arg("evaluate")
        .args([shared.at("int8"), shared.at("held-out")])
        .arg("--out")
        .arg(dir.path()));
    assert!(0.8 < report["accuracy"].as_f64().unwrap(), "{report}");
    let total: u64 = report["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|r| r.as_array().unwrap())
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(total, 100);
    assert!(std::fs::read_to_string(dir.path().join("confusion.svg")).unwrap().contains("<svg"));
}

#[test]
fn scanning_denies_a_pickle_that_runs_a_command_and_allows_a_bundle() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    let evil = dir.path().join("innocent.onnx");
    std::fs::write(&evil, b"cos\nsystem\n(S'true'\ntR.").unwrap();
    let (exit, _) = fails(bms(&shared.home()).arg("scan").arg(&evil));
    assert_eq!(exit, i32::from(Code::MaliciousContent.exit()));
    let result = ok(bms(&shared.home()).arg("scan").arg(shared.at("fp32")));
    assert_eq!(result["verdict"], json!("allow"));
}

#[test]
fn scanning_prints_one_object_a_file_and_documents_for_other_tools() {
    let shared = shared();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.pkl"), b"cos\nsystem\n(S'true'\ntR.").unwrap();
    std::fs::write(dir.path().join("b.json"), b"{}").unwrap();
    let scan = |format: &[&str]| {
        let output = bms(&shared.home()).arg("scan").arg(dir.path()).args(format).output().unwrap();
        assert_eq!(output.status.code(), Some(i32::from(Code::MaliciousContent.exit())));
        String::from_utf8(output.stdout).unwrap()
    };
    let lines: Vec<serde_json::Value> =
        scan(&[]).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["deny", "allow"], "one object a file and nothing else");
    assert_eq!(lines[0]["findings"][0]["rule"], "pickle-import");
    let document =
        |format: &str| -> serde_json::Value { serde_json::from_str(&scan(&["--format", format])).unwrap() };
    let sarif = document("sarif");
    assert_eq!(sarif["version"], "2.1.0");
    assert_eq!(sarif["runs"][0]["results"][0]["level"], "error");
    let bom = document("cyclonedx");
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&json!("CycloneDX"), &json!("1.6")));
    assert_eq!(bom["components"].as_array().unwrap().len(), 2);
    assert_eq!(bom["components"][0]["hashes"][0]["content"].as_str().unwrap().len(), 64);
    assert_eq!(bom["vulnerabilities"][0]["affects"][0]["ref"], bom["components"][0]["bom-ref"]);
    assert!(scan(&["--format", "table"]).contains("2 files, 1 denied"));
}

#[test]
fn nothing_is_written_over_and_nobody_there_is_said_so() {
    let shared = shared();
    let (exit, error) = fails(
        bms(&shared.home())
            .arg("train")
            .arg(shared.at("train"))
            .args(["--name", "x", "--out"])
            .arg(shared.at("fp32")),
    );
    assert_eq!((exit, &error["code"]), (i32::from(Code::Conflict.exit()), &json!("conflict")));
    let (exit, error) = fails(bms(&shared.home()).args(["models", "--server", "http://127.0.0.1:1"]));
    assert_eq!(exit, i32::from(Code::Unavailable.exit()));
    assert!(error["hint"].as_str().unwrap().contains("bms up"));
    let (exit, _) =
        fails(bms(&shared.home()).args(["train", "/nonexistent", "--name", "x", "--out", "/tmp/never"]));
    assert_eq!(exit, i32::from(Code::NotFound.exit()));
    let (exit, _) = fails(bms(&shared.home()).args(["augment", "--no-such-option"]));
    assert_eq!(exit, 2);
}

#[test]
fn keys_are_shown_and_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let key = ok(bms(&there).args(["key", "show"]));
    let pem = dir.path().join("there.pem");
    std::fs::write(&pem, key["public_key"].as_str().unwrap()).unwrap();
    ok(bms(&here).args(["trust", "add", "--publisher", "there", "--model", "digits*"]).arg(&pem));
    let list = ok(bms(&here).args(["trust", "list"]));
    assert_eq!(list["trusted"].as_array().unwrap().len(), 2);
    assert_eq!(list["trusted"][1]["key_id"], key["key_id"]);
}

#[test]
fn doctor_names_the_built_in_run_time() {
    let doctor = ok(bms(&shared().home()).arg("doctor"));
    assert_eq!(doctor["runtimes"][0]["name"], json!("rten"));
    assert_eq!(doctor["runtimes"][0]["available"], json!(true));
}
