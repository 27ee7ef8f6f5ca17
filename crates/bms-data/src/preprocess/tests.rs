use super::*;

fn grey(width: u32, height: u32) -> ImageInput {
    ImageInput { width, height, mean: vec![0.0], std: vec![1.0] }
}

#[track_caller]
fn close(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() < 1e-6, "value {i}: {g} is not {w}");
    }
}

#[test]
fn the_right_size_is_taken_as_it_is_and_normalised() {
    let image = Image::new(2, 1, 1, vec![0, 255]).unwrap();
    let input = ImageInput { width: 2, height: 1, mean: vec![0.5], std: vec![0.25] };
    close(&preprocess_image(&input, &image).unwrap(), &[-2.0, 2.0]);
}

#[test]
fn resizing_follows_half_pixel_bilinear() {
    // torch.nn.functional.interpolate(mode="bilinear", align_corners=False) of [[0, 255]] to width 4.
    let image = Image::new(2, 1, 1, vec![0, 255]).unwrap();
    close(&preprocess_image(&grey(4, 1), &image).unwrap(), &[0.0, 0.25, 0.75, 1.0]);
    // The same of [[0, 51, 102, 153]] to width 2: positions 0.5 and 2.5.
    let image = Image::new(4, 1, 1, vec![0, 51, 102, 153]).unwrap();
    close(&preprocess_image(&grey(2, 1), &image).unwrap(), &[0.1, 0.5]);
    // One pixel fills everything.
    let image = Image::new(1, 1, 1, vec![51]).unwrap();
    close(&preprocess_image(&grey(3, 2), &image).unwrap(), &[0.2; 6]);
}

#[test]
fn grey_and_rgb_convert_both_ways() {
    let rgb = Image::new(1, 1, 3, vec![255, 0, 0]).unwrap();
    // Pillow: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L") is 76.
    close(&preprocess_image(&grey(1, 1), &rgb).unwrap(), &[76.0 / 255.0]);
    let input = ImageInput { width: 1, height: 1, mean: vec![0.0; 3], std: vec![1.0; 3] };
    close(&preprocess_image(&input, &rgb).unwrap(), &[1.0, 0.0, 0.0]);
    let one = Image::new(1, 1, 1, vec![51]).unwrap();
    close(&preprocess_image(&input, &one).unwrap(), &[0.2; 3]);
}

#[test]
fn channels_come_plane_by_plane() {
    let rgb = Image::new(2, 1, 3, vec![255, 0, 51, 0, 255, 102]).unwrap();
    let input = ImageInput { width: 2, height: 1, mean: vec![0.0; 3], std: vec![1.0; 3] };
    close(&preprocess_image(&input, &rgb).unwrap(), &[1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
}

#[test]
fn an_impossible_pipeline_is_refused() {
    let image = Image::new(1, 1, 1, vec![0]).unwrap();
    for input in [
        ImageInput { width: 0, ..grey(1, 1) },
        ImageInput { std: vec![0.0], ..grey(1, 1) },
        ImageInput { std: vec![f32::NAN], ..grey(1, 1) },
        ImageInput { mean: vec![0.0; 2], std: vec![1.0; 2], ..grey(1, 1) },
        ImageInput { std: vec![], ..grey(1, 1) },
    ] {
        assert_eq!(preprocess_image(&input, &image).unwrap_err().code(), Code::InvalidBundle);
    }
}

#[test]
fn rows_are_standardised_and_checked() {
    let input =
        TableInput { columns: vec!["a".into(), "b".into()], mean: vec![1.0, 2.0], std: vec![2.0, 4.0] };
    close(&preprocess_row(&input, &[3.0, -2.0]).unwrap(), &[1.0, -1.0]);
    assert!(preprocess_row(&input, &[1.0]).unwrap_err().advice().unwrap().contains("a, b"));
    assert!(preprocess_row(&input, &[1.0, f32::NAN]).unwrap_err().message().contains("`b`"));
    assert!(preprocess_row(&input, &[f32::INFINITY, 0.0]).is_err());
}
