use bms_data::{Frame, Image};
use bms_wire::{
    AudioInput, BoxLayout, BoxesOutput, LineOutput, LinesOutput, Outcome, PictureInput, SpeechOutput,
};

use super::*;

fn frame(width: u32, height: u32) -> Frame {
    Frame::of(&Image::new(width, height, 1, vec![0; (width * height) as usize]).unwrap())
}

fn boxes(layout: BoxLayout, shape: [usize; 3], values: &[f32]) -> Vec<(String, f32, [f32; 4])> {
    let output = BoxesOutput {
        layout,
        labels: vec!["a".into(), "b".into()],
        score_min: 0.25,
        overlap_max: 0.45,
        across_labels: true,
        boxes_max: 10,
    };
    let tensor = Tensor::f32(shape.to_vec(), values.to_vec()).unwrap();
    match boxes::read(&output, &tensor, &[frame(100, 100)]).unwrap().remove(0) {
        Outcome::Boxes { boxes, .. } => {
            boxes.into_iter().map(|b| (b.label, b.score, [b.left, b.top, b.right, b.bottom])).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn layouts_of_detectors() {
    let b = |label: &str, score: f32, edges: [f32; 4]| (label.to_owned(), score, edges);
    // Centre and size, any object, two classes.
    let v5 = [50.0, 50.0, 20.0, 10.0, 0.5, 0.5, 1.0, 10.0, 10.0, 40.0, 40.0, 0.5, 0.4, 0.3];
    assert_eq!(boxes(BoxLayout::YoloV5, [1, 2, 7], &v5), [b("b", 0.5, [40.0, 45.0, 60.0, 55.0])]);
    // Edges, score, class; a class that is not there is left out.
    let corners = [10.0, 20.0, 30.0, 40.0, 0.9, 1.0, 0.0, 0.0, 5.0, 5.0, 0.9, 2.0];
    assert_eq!(boxes(BoxLayout::Corners, [1, 2, 6], &corners), [b("b", 0.9, [10.0, 20.0, 30.0, 40.0])]);
    // Features first; the second overlaps the first by 2/3, of another label, and all labels suppress each other.
    let v8 = [50.0, 52.0, 50.0, 50.0, 10.0, 10.0, 10.0, 10.0, 0.9, 0.0, 0.1, 0.8];
    assert_eq!(boxes(BoxLayout::YoloV8, [1, 6, 2], &v8), [b("a", 0.9, [45.0, 45.0, 55.0, 55.0])]);
}

#[test]
fn boxes_without_area_or_within_the_picture_harm_nobody() {
    let v8 = [50.0, 50.0, -3.0, 1e30, 0.0, -5.0, 0.0, 1e30, 0.9, 0.8, 0.0, 0.0];
    assert_eq!(boxes(BoxLayout::YoloV8, [1, 6, 2], &v8).len(), 2);
}

#[test]
fn repetitions_and_blanks_say_nothing() {
    let output = LineOutput { characters: ["l", "o", " "].map(str::to_owned).to_vec() };
    let step = |class: usize, p: f32| (0..4).map(move |c| if c == class { p } else { 0.0 });
    let read = |classes: &[(usize, f32)]| {
        let values: Vec<f32> = classes.iter().flat_map(|&(class, p)| step(class, p)).collect();
        let tensor = Tensor::f32(vec![1, classes.len(), 4], values).unwrap();
        match line::read(&output, &tensor).unwrap().remove(0) {
            Outcome::Line { text, score } => (text, score),
            other => panic!("{other:?}"),
        }
    };
    let steps = [(1, 0.5), (1, 0.9), (0, 1.0), (1, 1.0), (2, 0.75), (2, 0.1), (3, 0.75)];
    assert_eq!(read(&steps), ("llo ".to_owned(), 0.75));
    assert_eq!(read(&[(0, 1.0), (0, 1.0)]), (String::new(), 0.0));
}

fn lines(unclip: f32) -> LinesOutput {
    let json = serde_json::json!({
        "threshold": 0.3, "region_min": 0.5, "unclip": unclip, "regions_max": 100,
        "recognise": {"model": "m", "picture": {"steps": []}, "line": {"characters": ["a"]}, "score_min": 0.5},
    });
    serde_json::from_value(json).unwrap()
}

#[test]
fn regions_are_found_at_any_angle() {
    // A bar of 60 by 12 turned by 30 degrees, around the middle of 120 by 100.
    let (sin, cos) = (0.5f32, 0.75f32.sqrt());
    let inside = |x: f32, y: f32| {
        let (along, across) = (x * cos + y * sin, y * cos - x * sin);
        along.abs() <= 30.0 && across.abs() <= 6.0
    };
    let map: Vec<f32> = (0..120 * 100)
        .map(|at| if inside((at % 120) as f32 - 60.0, (at / 120) as f32 - 50.0) { 0.9 } else { 0.1 })
        .collect();
    let found = regions::find(&lines(0.0), &map, 120, &frame(240, 200));
    // In the original, twice as large.
    let want = [[-30.0, -6.0], [30.0, -6.0], [30.0, 6.0], [-30.0, 6.0]]
        .map(|[x, y]: [f32; 2]| [2.0 * (60.0 + x * cos - y * sin), 2.0 * (50.0 + x * sin + y * cos)]);
    assert_eq!(found.len(), 1);
    for (corner, want) in found[0].iter().zip(want) {
        let off = f32::hypot(corner[0] - want[0], corner[1] - want[1]);
        assert!(off < 5.0, "{corner:?}, expected {want:?}");
    }
    // Widened by 61 * 13 * 1.5 / 2 / (61 + 13), about 8, on every side, in the map.
    let wide = regions::find(&lines(1.5), &map, 120, &frame(120, 100));
    let side = |c: &[[f32; 2]; 4], a: usize, b: usize| f32::hypot(c[a][0] - c[b][0], c[a][1] - c[b][1]);
    assert!(
        (side(&wide[0], 0, 1) - 76.0).abs() < 4.0 && (side(&wide[0], 0, 3) - 28.0).abs() < 4.0,
        "{wide:?}"
    );
}

#[test]
fn specks_faint_regions_and_too_many_are_left_out() {
    let mut map = vec![0.0; 100 * 100];
    let mut block = |left: usize, top: usize, side: usize, value: f32| {
        for y in top..top + side {
            map[y * 100 + left..][..side].fill(value);
        }
    };
    block(5, 5, 2, 0.9);
    block(20, 20, 10, 0.4);
    block(60, 60, 10, 0.9);
    block(40, 60, 10, 0.9);
    let output = lines(0.5);
    let found = regions::find(&output, &map, 100, &frame(100, 100));
    assert_eq!(found.iter().map(|c| c[0][0] < 50.0).collect::<Vec<_>>(), [true, false]);
    let one = LinesOutput { regions_max: 1, ..output };
    assert!(regions::find(&one, &map, 100, &frame(100, 100)).len() <= 1);
    assert!(regions::find(&lines(0.5), &[1.0], 1, &frame(1, 1)).is_empty());
}

/// Probabilities and what `get_speech_timestamps_from_probs` of silero-vad 6.2.3 makes of them, in samples.
#[test]
fn times_of_speech_are_silero_vads() {
    let output = SpeechOutput { threshold: 0.5, speech_ms: 250, silence_ms: 100, pad_ms: 30 };
    let audio = AudioInput {
        sample_rate: 16_000,
        window: 512,
        context: 64,
        samples: "input".into(),
        rate: None,
        state: vec![],
    };
    let runs = |runs: &[(usize, f32)]| -> Vec<f32> {
        runs.iter().flat_map(|&(count, p)| std::iter::repeat_n(p, count)).collect()
    };
    let check = |probabilities: &[f32], expected: &[(usize, usize)]| {
        let samples = probabilities.len() * 512 - 100;
        let found = speech::segments(&output, &audio, probabilities, samples);
        let found: Vec<_> = found
            .iter()
            .map(|s| ((s.start * 16_000.0).round() as usize, (s.end * 16_000.0).round() as usize))
            .collect();
        assert_eq!(found, expected);
    };
    check(&runs(&[(5, 0.1), (20, 0.9), (10, 0.1)]), &[(2080, 13280)]);
    check(&runs(&[(20, 0.9), (3, 0.4), (2, 0.2), (20, 0.9)]), &[(0, 22940)]);
    check(&runs(&[(20, 0.9), (4, 0.2), (20, 0.9), (3, 0.4)]), &[(0, 23964)]);
    check(&runs(&[(20, 0.9), (5, 0.2), (3, 0.6), (9, 0.1)]), &[(0, 10720)]);
    check(&runs(&[(3, 0.9), (30, 0.2)]), &[]);
    check(
        &runs(&[(1, 0.1), (9, 0.51), (3, 0.34), (1, 0.35), (3, 0.34), (9, 0.8)]),
        &[(32, 5600), (8224, 13212)],
    );
    check(&runs(&[(30, 0.9)]), &[(0, 15260)]);
    check(
        &runs(&[(5, 0.1), (10, 0.9), (4, 0.3), (1, 0.4), (4, 0.1), (12, 0.5)]),
        &[(2080, 8160), (11808, 18332)],
    );
}

#[test]
fn a_picture_needs_no_scale() {
    let input: PictureInput = serde_json::from_str(r#"{"steps":[]}"#).unwrap();
    assert_eq!((input.divisor, input.size()), (255.0, None));
}
