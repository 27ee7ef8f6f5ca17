use super::*;

fn seen(values: &[f32]) -> Seen {
    let mut seen = Seen::default();
    seen.widen(values);
    seen.count(values);
    seen
}

fn back(affine: Affine, value: f32) -> f32 {
    let byte = ((value / affine.scale).round_ties_even() + f32::from(affine.zero)).clamp(0.0, 255.0);
    (byte - f32::from(affine.zero)) * affine.scale
}

#[test]
fn zero_is_a_byte_exactly_and_the_extremes_come_back() {
    for (low, high) in
        [(-1.0_f32, 3.0_f32), (0.0, 5.0), (-7.0, 0.0), (2.0, 4.0), (-4.0, -2.0), (-1e-20, 1e20)]
    {
        let affine = seen(&[low, high]).affine(Calibration::MinMax {});
        assert_eq!(back(affine, 0.0), 0.0);
        for value in [low, high] {
            assert!((back(affine, value) - value).abs() <= affine.scale, "{value} of {low}..{high}");
        }
    }
}

#[test]
fn only_zeros_and_nothing_at_all_have_a_scale() {
    assert_eq!(seen(&[0.0, 0.0]).affine(Calibration::LeastError {}), Affine::default());
    assert_eq!(seen(&[]).affine(Calibration::Percentile { clipped: 0.01 }), Affine::default());
}

#[test]
fn percentiles_clip_an_outlier_and_no_more() {
    let mut values: Vec<f32> = (0..1000).map(|idx| idx as f32 / 1000.0).collect();
    values.push(100.0);
    let full = seen(&values).affine(Calibration::MinMax {});
    let clipped = seen(&values).affine(Calibration::Percentile { clipped: 0.002 });
    assert!((full.scale * 255.0 - 100.0).abs() < 0.01);
    assert!((0.95..1.1).contains(&(clipped.scale * 255.0)), "{}", clipped.scale * 255.0);
}

#[test]
fn the_least_error_is_no_worse_than_the_full_range() {
    // Many small values and a few larger ones.
    let values: Vec<f32> = (0..4000).map(|idx| (idx as f32 / 4000.0).powi(9) * 4.0 - 0.2).collect();
    let seen = seen(&values);
    let error = |affine: Affine| values.iter().map(|&v| f64::from(v - back(affine, v)).powi(2)).sum::<f64>();
    let full = error(seen.affine(Calibration::MinMax {}));
    assert!(error(seen.affine(Calibration::LeastError {})) <= full * 1.01);
}

#[test]
fn a_share_that_makes_no_sense_is_refused() {
    for clipped in [0.0, 0.5, -1.0, f64::NAN] {
        assert!(Calibration::Percentile { clipped }.check().is_err(), "{clipped}");
    }
    assert!(Calibration::Percentile { clipped: 0.001 }.check().is_ok());
}
