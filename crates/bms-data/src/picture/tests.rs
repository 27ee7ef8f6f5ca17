use bms_wire::Resampler;

use super::*;
use crate::{cut_out, draw};

/// The picture of `expected.py`.
fn picture(width: u32, height: u32) -> Image {
    let value = |x: u32, y: u32, c: u32| ((x * 7 + y * 13 + c * 50 + x * y * (c + 1)) % 256) as u8;
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| (0..3).map(move |c| value(x, y, c))));
    Image::new(width, height, 3, pixels.collect()).unwrap()
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Printed by `expected.py`.
const RESIZED: [(Resampler, (u32, u32), u32); 24] = [
    (Resampler::PillowBilinear, (16, 9), 0x3edc3c1a),
    (Resampler::PillowBicubic, (16, 9), 0xc14ede0f),
    (Resampler::PillowLanczos, (16, 9), 0x461912b2),
    (Resampler::OpencvLinear, (16, 9), 0x565919b1),
    (Resampler::PillowBilinear, (37, 23), 0xc7e89e70),
    (Resampler::PillowBicubic, (37, 23), 0x102388ef),
    (Resampler::PillowLanczos, (37, 23), 0xd778e632),
    (Resampler::OpencvLinear, (37, 23), 0x9ac32e9f),
    (Resampler::PillowBilinear, (74, 20), 0xcd9922ce),
    (Resampler::PillowBicubic, (74, 20), 0xad42aec9),
    (Resampler::PillowLanczos, (74, 20), 0x0c0fa80a),
    (Resampler::OpencvLinear, (74, 20), 0xe7d55531),
    (Resampler::PillowBilinear, (31, 46), 0xec465f76),
    (Resampler::PillowBicubic, (31, 46), 0xfbc4a4a7),
    (Resampler::PillowLanczos, (31, 46), 0x503bd575),
    (Resampler::OpencvLinear, (31, 46), 0x4131c5bc),
    (Resampler::PillowBilinear, (200, 150), 0xc44d49f0),
    (Resampler::PillowBicubic, (200, 150), 0xda18ca5f),
    (Resampler::PillowLanczos, (200, 150), 0xb3322eeb),
    (Resampler::OpencvLinear, (200, 150), 0x49091b37),
    (Resampler::PillowBilinear, (1, 1), 0xe5f31066),
    (Resampler::PillowBicubic, (1, 1), 0xe5f31066),
    (Resampler::PillowLanczos, (1, 1), 0xe5f31066),
    (Resampler::OpencvLinear, (1, 1), 0xfddd8c4d),
];

#[test]
fn resizing_equals_the_libraries_to_the_bit() {
    let source = picture(74, 46);
    let differ = |&(resampler, (width, height), expected): &(Resampler, (u32, u32), u32)| {
        let resized = resize(&source, width, height, resampler);
        assert_eq!(resized.pixels.len(), (width * height * 3) as usize);
        (crc(&resized.pixels) != expected).then_some((resampler, width, height))
    };
    let differ: Vec<_> = RESIZED.iter().filter_map(differ).collect();
    assert_eq!(differ, []);
}

#[test]
fn a_region_is_cut_out_as_opencv_does_within_1_of_255() {
    let slope = (0..46u32).flat_map(|y| (0..74u32).flat_map(move |x| [(2 * (x + y)) as u8; 3]));
    let slope = Image::new(74, 46, 3, slope.collect()).unwrap();
    let cut = cut_out(&slope, &[[10.0, 5.0], [60.0, 9.0], [58.0, 30.0], [8.0, 26.0]]).unwrap();
    assert_eq!((cut.width, cut.height), (50, 21));
    let expected = [[30, 32, 84, 134, 136], [48, 50, 102, 152, 154], [66, 68, 120, 170, 172]];
    for (y, row) in [0, 10, 20].into_iter().zip(expected) {
        for (x, expected) in [0, 1, 25, 48, 49].into_iter().zip(row) {
            let got = i32::from(cut.pixels[(y * 50 + x) * 3]);
            assert!((got - expected).abs() <= 1, "{x},{y}: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_high_region_is_turned_and_an_empty_one_refused() {
    let image = picture(20, 40);
    let cut = cut_out(&image, &[[2.0, 2.0], [8.0, 2.0], [8.0, 30.0], [2.0, 30.0]]).unwrap();
    assert_eq!((cut.width, cut.height), (28, 6));
    // The upper right corner of the upright region is the upper left one of the turned.
    assert_eq!(cut.pixels[..3], image.pixels[(2 * 20 + 7) * 3..][..3]);
    for corners in [[[1.0, 1.0]; 4], [[0.0, 0.0], [9.0, 9.0], [18.0, 18.0], [9.0, 9.0]]] {
        assert_eq!(cut_out(&image, &corners).unwrap_err().code(), Code::InvalidInput);
    }
}

fn input(steps: Vec<PictureStep>) -> PictureInput {
    let (colour, layout) = (Colour::Rgb, Layout::Nchw);
    PictureInput { steps, colour, layout, divisor: 255.0, mean: vec![], std: vec![] }
}

#[test]
fn colours_layouts_and_scales() {
    let image = Image::new(2, 1, 3, vec![0, 51, 102, 153, 204, 255]).unwrap();
    let mut plain = input(vec![]);
    assert_eq!(prepare_picture(&plain, &image).unwrap().values, [0.0, 0.6, 0.2, 0.8, 0.4, 1.0]);
    plain.layout = Layout::Nhwc;
    plain.colour = Colour::Bgr;
    let prepared = prepare_picture(&plain, &image).unwrap();
    assert_eq!((prepared.values, prepared.shape), (vec![0.4, 0.2, 0.0, 1.0, 0.8, 0.6], vec![1, 2, 3]));
    plain.colour = Colour::Grey;
    (plain.divisor, plain.mean, plain.std) = (1.0, vec![127.0], vec![128.0]);
    let grey = image.to_grey().pixels;
    let expected: Vec<f32> = grey.iter().map(|&p| (f32::from(p) - 127.0) / 128.0).collect();
    assert_eq!(prepare_picture(&plain, &image).unwrap().values, expected);
}

#[test]
fn sizes_of_steps() {
    let resampler = Resampler::OpencvLinear;
    let size = |step: PictureStep, width: u32, height: u32| {
        let grey = Image::new(width, height, 1, vec![9; (width * height) as usize]).unwrap();
        prepare_picture(&input(vec![step]), &grey).map(|prepared| prepared.shape[1..].to_vec())
    };
    let shorter = PictureStep::ResizeShorter { pixels: 256, resampler };
    assert_eq!(size(shorter.clone(), 451, 300).unwrap(), [256, 384]);
    assert_eq!(size(shorter.clone(), 300, 451).unwrap(), [384, 256]);
    assert_eq!(size(shorter, 1, 16_000).unwrap_err().code(), Code::TooLarge);
    let within = PictureStep::ResizeWithin { longest: 960, multiple: 32, resampler };
    assert_eq!(size(within.clone(), 1920, 1000).unwrap(), [512, 960]);
    // 80 / 32 is 2.5, which goes to the even number.
    assert_eq!(size(within.clone(), 80, 112).unwrap(), [128, 64]);
    assert_eq!(size(within, 3, 5).unwrap(), [32, 32]);
    let line = PictureStep::ResizeLine { height: 48, width_min: 320, width_max: 400, resampler };
    assert_eq!(size(line.clone(), 10, 10).unwrap(), [48, 320]);
    assert_eq!(size(line.clone(), 79, 10).unwrap(), [48, 380]);
    assert_eq!(size(line, 4000, 10).unwrap(), [48, 400]);
    let middle = PictureStep::CenterCrop { width: 224, height: 224 };
    assert_eq!(size(middle.clone(), 256, 384).unwrap(), [224, 224]);
    assert_eq!(size(middle, 223, 384).unwrap_err().code(), Code::InvalidInput);
}

#[test]
fn places_go_back_to_the_original() {
    let resampler = Resampler::OpencvLinear;
    let letterbox = PictureStep::Letterbox { width: 64, height: 64, fill: 114, resampler };
    let prepared = prepare_picture(&input(vec![letterbox]), &picture(128, 64)).unwrap();
    // Half as large, 16 rows below the top, which are grey.
    assert_eq!(prepared.values[15 * 64], 114.0 / 255.0);
    assert_eq!(prepared.frame.to_original(10.0, 26.0), [20.0, 20.0]);
    assert_eq!(prepared.frame.to_original(-5.0, 70.0), [0.0, 64.0]);
    let steps = vec![
        PictureStep::ResizeShorter { pixels: 32, resampler },
        PictureStep::CenterCrop { width: 20, height: 20 },
    ];
    let prepared = prepare_picture(&input(steps), &picture(128, 64)).unwrap();
    assert_eq!(prepared.frame.to_original(0.0, 0.0), [44.0, 12.0]);
}

#[test]
fn what_is_drawn_stays_within_the_picture() {
    let mut canvas = draw::Canvas::new(&picture(40, 30));
    canvas.outline(&[[-1e30, 5.0], [f32::NAN, 50.0], [1e30, 9.0]], draw::INKS[0]);
    canvas.text(35.0, -3.0, "Aé漢", draw::INKS[1]);
    let drawn = canvas.into_image();
    drawn.check().unwrap();
    assert_ne!(drawn, picture(40, 30));
    // Text on its ground, moved to the left so that it is seen whole: three letters and two margins.
    assert_eq!(drawn.pixels[14 * 3..][..3], draw::INKS[1]);
    let white = drawn.pixels.chunks_exact(3).filter(|p| *p == [255, 255, 255]).count();
    assert!(30 < white, "{white}");
}

#[test]
fn text_beside_a_picture_fills_its_space_and_no_more() {
    let input = picture(40, 30);
    let mut canvas = draw::Canvas::beside(&input);
    canvas.text_in([50.0, 5.0], [24.0, 16.0], "II");
    canvas.text_in([60.0, f32::NAN], [24.0, 16.0], "I");
    canvas.text_in([-1e30, 1e30], [f32::INFINITY, 0.0], "I");
    let drawn = canvas.into_image();
    drawn.check().unwrap();
    assert_eq!((drawn.width, drawn.height), (80, 30));
    let left = drawn.pixels.chunks_exact(240).flat_map(|row| &row[..120]);
    assert!(left.eq(&input.to_rgb().pixels));
    let is_dark = |x: usize, y: usize| drawn.pixels[(y * 80 + x) * 3] < 128;
    let dark: Vec<_> =
        (0..30).flat_map(|y| (40..80).map(move |x| (x, y))).filter(|&(x, y)| is_dark(x, y)).collect();
    assert!(dark.iter().all(|&(x, y)| (50..74).contains(&x) && (5..21).contains(&y)), "{dark:?}");
    assert!(dark.iter().any(|&(x, _)| x < 62) && dark.iter().any(|&(x, _)| 62 <= x), "{dark:?}");
}
