use super::geometry::{Warp, flip_horizontal, flip_vertical, warp};
use super::*;
use crate::digits;

fn ramp(width: u32, height: u32, channels: u8) -> Image {
    let n = width * height * u32::from(channels);
    Image::new(width, height, channels, (0..n).map(|i| (i * 37 % 251) as u8).collect()).unwrap()
}

const SIZES: [(u32, u32); 6] = [(1, 1), (1, 7), (8, 8), (5, 3), (2, 9), (17, 16)];

fn every_picture() -> impl Iterator<Item = Image> {
    SIZES.into_iter().flat_map(|(w, h)| [ramp(w, h, 1), ramp(w, h, 3)])
}

/// The plain rotation by quarter turns, counter-clockwise.
fn quarter_turn(image: &Image) -> Image {
    let (w, h, c) = (image.width as usize, image.height as usize, usize::from(image.channels));
    let mut pixels = vec![0; image.pixels.len()];
    for y in 0..h {
        for x in 0..w {
            let to = ((w - 1 - x) * h + y) * c;
            pixels[to..to + c].copy_from_slice(&image.pixels[(y * w + x) * c..][..c]);
        }
    }
    Image { width: image.height, height: image.width, pixels, ..*image }
}

#[test]
fn a_flip_twice_is_the_picture_and_once_is_its_mirror() {
    for image in every_picture() {
        assert_eq!(flip_horizontal(&flip_horizontal(&image)), image);
        assert_eq!(flip_vertical(&flip_vertical(&image)), image);
        let half_turn = quarter_turn(&quarter_turn(&image));
        assert_eq!(flip_vertical(&flip_horizontal(&image)), half_turn);
    }
    let image = Image::new(2, 2, 1, vec![1, 2, 3, 4]).unwrap();
    assert_eq!(flip_horizontal(&image).pixels, [2, 1, 4, 3]);
    assert_eq!(flip_vertical(&image).pixels, [3, 4, 1, 2]);
}

#[test]
fn doing_nothing_changes_nothing() {
    for image in every_picture() {
        assert_eq!(warp(&image, &Warp::identity(), 9), image);
        assert_eq!(draw(&Plan::default(), &image, 1, "x", 0), image);
        let mut same = image.clone();
        colour::brightness(&mut same, 1.0);
        colour::contrast(&mut same, 1.0);
        assert_eq!(same, image);
    }
}

#[test]
fn quarter_turns_of_squares_are_exact() {
    for image in [ramp(8, 8, 1), ramp(7, 7, 3), ramp(1, 1, 1)] {
        let mut want = image.clone();
        for turns in 1..=4 {
            want = quarter_turn(&want);
            let turned = warp(&image, &Warp { degrees: 90.0 * turns as f32, ..Warp::identity() }, 0);
            assert_eq!(turned, want, "{turns} quarter turns of {}x{}", image.width, image.height);
        }
    }
}

#[test]
fn whole_pixel_shifts_are_exact_and_fill_the_rest() {
    let image = Image::new(3, 1, 1, vec![10, 20, 30]).unwrap();
    let moved = warp(&image, &Warp { shift_x: 1.0, ..Warp::identity() }, 7);
    assert_eq!(moved.pixels, [7, 10, 20]);
    let gone = warp(&image, &Warp { shift_y: 5.0, ..Warp::identity() }, 7);
    assert_eq!(gone.pixels, [7, 7, 7]);
}

#[test]
fn zoom_magnifies_about_the_centre() {
    let image = Image::new(4, 1, 1, vec![0, 100, 200, 40]).unwrap();
    // Twice as large: positions 0.75, 1.25, 1.75, 2.25 of the source.
    let large = warp(&image, &Warp { zoom: 2.0, ..Warp::identity() }, 0);
    assert_eq!(large.pixels, [75, 125, 175, 160]);
}

#[test]
fn tone_clamps() {
    let mut image = Image::new(3, 1, 1, vec![0, 100, 200]).unwrap();
    colour::brightness(&mut image, 2.0);
    assert_eq!(image.pixels, [0, 200, 255]);
    let mut image = Image::new(2, 1, 1, vec![0, 200]).unwrap();
    colour::contrast(&mut image, 0.5);
    assert_eq!(image.pixels, [50, 150]);
    colour::contrast(&mut image, 10.0);
    assert_eq!(image.pixels, [0, 255]);
}

#[test]
fn noise_has_the_deviation_asked_for() {
    let mut image = Image::new(100, 100, 1, vec![128; 10_000]).unwrap();
    colour::noise(&mut image, 10.0, &mut random::rng(1, "noise", 0));
    let mean = image.pixels.iter().map(|&p| f64::from(p)).sum::<f64>() / 1e4;
    let variance = image.pixels.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / 1e4;
    assert!((mean - 128.0).abs() < 0.5, "{mean}");
    assert!((variance.sqrt() - 10.0).abs() < 0.3, "{}", variance.sqrt());
}

#[test]
fn the_result_does_not_depend_on_threads_or_order() {
    let set = digits().unwrap().take(60);
    let plan = Plan::photos();
    let one = augment_set(&set, &plan, 3, 42, 1, &|_, _| {}).unwrap();
    for threads in [2, 5] {
        assert_eq!(augment_set(&set, &plan, 3, 42, threads, &|_, _| {}).unwrap(), one);
    }
    let mut reversed = set.clone();
    reversed.samples.reverse();
    assert_eq!(augment_set(&reversed, &plan, 3, 42, 2, &|_, _| {}).unwrap().digest(), one.digest());
    assert_ne!(augment_set(&set, &plan, 3, 43, 1, &|_, _| {}).unwrap().digest(), one.digest());
    // Copies differ from each other and from the picture.
    assert_ne!(one.samples[0].image, one.samples[1].image);
    assert_ne!(one.samples[0].image, set.samples[0].image);
}

#[test]
fn progress_reaches_the_total_once() {
    let set = digits().unwrap().take(10);
    let ends = AtomicUsize::new(0);
    let count = |done: usize, total: usize| {
        assert!(done <= total);
        ends.fetch_add(usize::from(done == total), Ordering::Relaxed);
    };
    augment_set(&set, &Plan::digits(), 2, 0, 2, &count).unwrap();
    assert_eq!(ends.into_inner(), 1);
}

#[test]
fn impossible_plans_are_refused_by_name() {
    let set = digits().unwrap().take(1);
    let refused = |plan: Plan| augment_set(&set, &plan, 1, 0, 1, &|_, _| {}).unwrap_err();
    assert!(refused(Plan { flip_horizontal: 1.1, ..Plan::default() }).message().contains("flip_horizontal"));
    assert!(refused(Plan { flip_vertical: f32::NAN, ..Plan::default() }).message().contains("flip_vertical"));
    let zoom = Range { low: 2.0, high: 1.0 };
    let crop = Some(Crop { probability: 1.0, shift: 0.0, zoom });
    assert!(refused(Plan { crop, ..Plan::default() }).message().contains("crop.zoom"));
    assert!(toml::from_str::<Plan>("flip_horizontl = 1.0").is_err(), "a misspelt option is not ignored");
    assert_eq!(
        augment_set(&set, &Plan::digits(), u32::MAX, 0, 1, &|_, _| {}).unwrap_err().code(),
        Code::TooLarge
    );
}
