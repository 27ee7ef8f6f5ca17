use super::*;

fn curves(validated: bool) -> Curves {
    let point = |epoch: usize| Point {
        epoch,
        learning_rate: 0.001,
        train_loss: 2.0 / epoch as f32,
        train_accuracy: 1.0 - 0.5 / epoch as f32,
        validation_loss: validated.then_some(2.5 / epoch as f32),
        validation_accuracy: validated.then_some(0.9),
    };
    Curves { points: (1..=6).map(point).collect() }
}

#[test]
fn the_json_reads_back_bit_for_bit() {
    let all = curves(true);
    let back: Curves = serde_json::from_slice(&all.to_json().unwrap()).unwrap();
    assert_eq!(back, all);
}

#[test]
fn the_picture_shows_validation_only_when_there_is_some() {
    let with = curves(true).to_svg().unwrap();
    assert!(with.starts_with("<svg") && with.trim_end().ends_with("</svg>"));
    assert!(with.contains("loss") && with.contains("accuracy") && with.contains("validation"));
    assert!(!curves(false).to_svg().unwrap().contains("validation"));
}

#[test]
fn one_epoch_and_none_still_make_a_picture() {
    let mut few = curves(true);
    few.points.truncate(1);
    assert!(few.to_svg().unwrap().contains("</svg>"));
    few.points.clear();
    assert!(few.to_svg().unwrap().contains("</svg>"));
}
