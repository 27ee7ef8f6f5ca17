use bms_data::{Image, ImageSample};

use super::*;
use crate::network::design::Architecture;

fn options() -> TrainOptions<'static> {
    TrainOptions::new("test", Architecture::Mlp { hidden: vec![] })
}

fn table(rows: &[[f32; 2]], targets: &[usize]) -> Dataset {
    Dataset::Table(TableSet {
        columns: vec!["x".into(), "y".into()],
        labels: vec!["no".into(), "yes".into()],
        rows: rows.concat(),
        targets: targets.to_vec(),
    })
}

fn pictures(sizes: &[(u32, u32, u8)]) -> Dataset {
    let sample = |(idx, &(width, height, channels)): (usize, &(u32, u32, u8))| {
        let count = (width * height) as usize * usize::from(channels);
        let pixels = (0..count).map(|pixel| (pixel * 7 + idx * 50) as u8).collect();
        let image = Image::new(width, height, channels, pixels).unwrap();
        ImageSample { name: format!("p{idx}"), label: idx % 2, image }
    };
    let samples = sizes.iter().enumerate().map(sample).collect();
    Dataset::Images(ImageSet { labels: vec!["a".into(), "b".into()], samples })
}

/// Mean and deviation of every `step`-th value from `start`.
fn moments(values: &[f32], start: usize, step: usize) -> (f32, f32) {
    let picked: Vec<f32> = values.iter().skip(start).step_by(step).copied().collect();
    let mean = picked.iter().sum::<f32>() / picked.len() as f32;
    (mean, (picked.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / picked.len() as f32).sqrt())
}

fn all(samples: &Samples<'_>) -> Vec<f32> {
    let mut values = Vec::new();
    (0..samples.len()).for_each(|idx| samples.fill(idx, None, &mut values).unwrap());
    values
}

#[test]
fn columns_come_out_with_mean_zero_and_deviation_one() {
    let data = table(&[[1e6, 5.0], [1e6 + 2.0, 5.0], [1e6 + 4.0, 5.0]], &[0, 1, 0]);
    let pipeline = fit_pipeline(&data, &options()).unwrap();
    let values = all(&Samples::new(&data, &pipeline, None).unwrap());
    let (mean, std) = moments(&values, 0, 2);
    assert!(mean.abs() < 0.1 && (std - 1.0).abs() < 0.1, "{mean} {std}");
    // A column that never changes is not divided by zero.
    assert_eq!(moments(&values, 1, 2), (0.0, 0.0));
}

#[test]
fn pictures_come_out_with_mean_zero_and_deviation_one() {
    let data = pictures(&[(8, 6, 1), (8, 6, 1), (8, 6, 1)]);
    let pipeline = fit_pipeline(&data, &options()).unwrap();
    assert_eq!(input_shape(&pipeline).unwrap(), InputShape::Picture { channels: 1, height: 6, width: 8 });
    let (mean, std) = moments(&all(&Samples::new(&data, &pipeline, None).unwrap()), 0, 1);
    assert!(mean.abs() < 1e-4 && (std - 1.0).abs() < 1e-4, "{mean} {std}");
}

#[test]
fn one_colour_picture_makes_all_colour_and_the_size_can_be_chosen_or_is_bounded() {
    let data = pictures(&[(4, 4, 1), (5, 3, 3)]);
    let shape = |data: &Dataset, size| {
        let options = TrainOptions { picture_size: size, ..options() };
        fit_pipeline(data, &options).and_then(|pipeline| input_shape(&pipeline))
    };
    assert_eq!(shape(&data, None).unwrap(), InputShape::Picture { channels: 3, height: 4, width: 4 });
    assert_eq!(shape(&data, Some((7, 5))).unwrap(), InputShape::Picture { channels: 3, height: 5, width: 7 });
    assert_eq!(shape(&data, Some((0, 5))).unwrap_err().code(), Code::InvalidRequest);
    let large = shape(&pictures(&[(1000, 500, 1), (3, 3, 1)]), None).unwrap();
    assert_eq!(large, InputShape::Picture { channels: 1, height: 112, width: 224 });
}

#[test]
fn augmentation_depends_on_the_epoch_and_only_on_request() {
    let data = pictures(&[(8, 8, 1), (8, 8, 1)]);
    let pipeline = fit_pipeline(&data, &options()).unwrap();
    let plan = Plan::digits();
    let samples = Samples::new(&data, &pipeline, Some(&plan)).unwrap();
    let draw = |draw| {
        let mut values = Vec::new();
        samples.fill(0, draw, &mut values).unwrap();
        values
    };
    assert_eq!(draw(None), all(&samples)[..64]);
    assert_eq!(draw(Some((1, 3))), draw(Some((1, 3))));
    assert_ne!(draw(Some((1, 3))), draw(Some((1, 4))));
    assert_ne!(draw(Some((1, 3))), draw(Some((2, 3))));
}

#[test]
fn what_does_not_fit_is_refused() {
    let data = table(&[[1.0, 2.0], [2.0, 1.0]], &[0, 1]);
    let pipeline = fit_pipeline(&data, &options()).unwrap();
    let code = |data: &Dataset| Samples::new(data, &pipeline, None).err().map(|e| e.code());
    assert_eq!(code(&data), None);
    assert_eq!(code(&pictures(&[(2, 2, 1)])), Some(Code::InvalidInput));
    assert_eq!(code(&table(&[], &[])), Some(Code::InvalidInput));
    let Dataset::Table(mut renamed) = data.clone() else { panic!() };
    renamed.columns[0] = "z".into();
    assert_eq!(code(&Dataset::Table(renamed)), Some(Code::InvalidInput));

    let fit = |data: &Dataset, options: &TrainOptions<'_>| fit_pipeline(data, options).map_err(|e| e.code());
    assert_eq!(fit(&table(&[[f32::NAN, 0.0], [0.0, 0.0]], &[0, 1]), &options()), Err(Code::InvalidInput));
    assert_eq!(fit(&table(&[], &[]), &options()), Err(Code::InvalidInput));
    let augmented = TrainOptions { augment: Some(Plan::digits()), ..options() };
    assert_eq!(fit(&data, &augmented), Err(Code::InvalidRequest));
}
