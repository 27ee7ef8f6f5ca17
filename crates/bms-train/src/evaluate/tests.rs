use bms_data::TableSet;

use super::*;

/// A table whose rows do not matter: only the targets are looked at.
fn data(labels: &[&str], targets: &[usize]) -> Dataset {
    Dataset::Table(TableSet {
        columns: vec!["x".into()],
        labels: names(labels),
        rows: vec![0.0; targets.len()],
        targets: targets.to_vec(),
    })
}

fn names(labels: &[&str]) -> Vec<String> {
    labels.iter().map(|&label| label.to_owned()).collect()
}

fn evaluated(answers: &[[f32; 3]], targets: &[usize]) -> Result<Report> {
    let labels = ["a", "b", "c"];
    let mut predict = |rows: &[usize]| Ok(rows.iter().map(|&idx| answers[idx].to_vec()).collect());
    evaluate(&mut predict, &data(&labels, targets), &names(&labels))
}

const ANSWERS: [[f32; 3]; 8] = [
    [0.7, 0.2, 0.1],
    [0.5, 0.3, 0.2],
    [0.1, 0.8, 0.1],
    [0.4, 0.35, 0.25],
    [0.25, 0.45, 0.3],
    [0.05, 0.05, 0.9],
    [0.3, 0.3, 0.4],
    [1.0, 0.0, 0.0],
];
const TARGETS: [usize; 8] = [0, 0, 1, 1, 1, 2, 2, 2];

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-5, "{a} is not {b}");
}

/// The numbers are those of scikit-learn 1.9.1: `precision_recall_fscore_support(zero_division=0)`,
/// `confusion_matrix`, `log_loss` (on f32) and a calibration error in 15 bins by numpy.
#[test]
fn agrees_with_scikit_learn() {
    let report = evaluated(&ANSWERS, &TARGETS).unwrap();
    assert_eq!(report.samples, 8);
    close(report.accuracy, 0.75);
    assert_eq!(report.confusion, [[2, 0, 0], [1, 2, 0], [1, 0, 2]]);
    let expected = [(0.5, 1.0, 2.0 / 3.0, 2), (1.0, 2.0 / 3.0, 0.8, 3), (1.0, 2.0 / 3.0, 0.8, 3)];
    for (class, (precision, recall, f1, support)) in report.classes.iter().zip(expected) {
        close(class.precision, precision);
        close(class.recall, recall);
        close(class.f1, f1);
        assert_eq!(class.support, support);
    }
    close(report.macro_f1, (2.0 / 3.0 + 0.8 + 0.8) / 3.0);
    close(report.nll, 2.510_666_4);
    close(report.ece, 0.356_25);
    assert_eq!(report.reliability.len(), 15);
    assert_eq!(report.reliability.iter().map(|bin| bin.samples).sum::<u64>(), 8);
    // A confidence of exactly 1 lies in the last bin.
    assert_eq!((report.reliability[14].samples, report.reliability[14].accuracy), (1, 0.0));
}

#[test]
fn a_class_nobody_answers_has_zero_precision() {
    let report = evaluated(&[[0.9, 0.05, 0.05]], &[1]).unwrap();
    close(report.classes[1].precision, 0.0);
    close(report.classes[1].f1, 0.0);
    close(report.classes[0].precision, 0.0);
    close(report.accuracy, 0.0);
}

#[test]
fn labels_are_matched_by_name() {
    let model = names(&["a", "b", "c"]);
    let mut predict = |rows: &[usize]| Ok(rows.iter().map(|_| vec![0.0, 0.0, 1.0]).collect());
    let report = evaluate(&mut predict, &data(&["c"], &[0, 0]), &model).unwrap();
    close(report.accuracy, 1.0);
    let unknown = evaluate(&mut predict, &data(&["d"], &[0]), &model).unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidInput);
}

#[test]
fn answers_that_are_no_probabilities_are_refused() {
    assert_eq!(evaluated(&[[f32::NAN, 0.5, 0.5]], &[0]).unwrap_err().code(), Code::InvalidInput);
    assert_eq!(evaluated(&[], &[]).unwrap_err().code(), Code::InvalidInput);
    let labels = ["a", "b", "c"];
    let mut short = |rows: &[usize]| Ok(rows.iter().map(|_| vec![1.0]).collect());
    let error = evaluate(&mut short, &data(&labels, &[0]), &names(&labels)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidInput);
    let mut none = |_: &[usize]| Ok(Vec::new());
    assert!(evaluate(&mut none, &data(&labels, &[0]), &names(&labels)).is_err());
}

#[test]
fn the_files_hold_the_numbers_and_the_picture() {
    let report = evaluated(&ANSWERS, &TARGETS).unwrap();
    let dir = tempfile::tempdir().unwrap();
    report.write(&dir.path().join("new")).unwrap();
    let json = std::fs::read(dir.path().join("new/report.json")).unwrap();
    let back: Report = serde_json::from_slice(&json).unwrap();
    assert_eq!(back.confusion, report.confusion);
    close(back.ece, report.ece);
    let svg = std::fs::read_to_string(dir.path().join("new/confusion.svg")).unwrap();
    assert!(svg.contains("</svg>") && svg.contains("true label"));
    assert_eq!(svg.matches(">\n2\n<").count(), 3, "three cells hold the count 2");
}

#[test]
fn a_hundred_labels_still_make_a_picture() {
    let labels: Vec<String> = (0..100).map(|idx| format!("label number {idx}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let svg = picture::confusion(&labels, &vec![vec![1; 100]; 100]).unwrap();
    assert!(svg.contains("label numb…"));
}
