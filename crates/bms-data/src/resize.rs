//! Bilinear resizing.

use crate::Image;

/// Where one output coordinate samples its two taps: `low` and `low + 1` (clamped), and how much of
/// the second is taken.
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// The taps of a whole axis: `source = (output + 0.5) * from / to - 0.5`, clamped to the axis.
fn taps(from: u32, to: u32) -> Vec<Tap> {
    let scale = f64::from(from) / f64::from(to);
    let last = from as usize - 1;
    (0..to)
        .map(|output| {
            let source = ((f64::from(output) + 0.5) * scale - 0.5).max(0.0);
            let low = (source as usize).min(last);
            Tap { low, high: (low + 1).min(last), weight: (source - low as f64) as f32 }
        })
        .collect()
}

/// The picture at another size, values 0 to 255 not rounded, channel after channel (CHW).
///
/// Two taps an axis at half-pixel centres, edges repeated: what
/// `torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False, antialias=False)`
/// computes on a float tensor. Unlike Pillow's `resize` it does not widen the filter when shrinking.
/// The same size gives the same values.
pub(crate) fn bilinear_chw(image: &Image, width: u32, height: u32) -> Vec<f32> {
    let channels = usize::from(image.channels);
    let (columns, rows) = (taps(image.width, width), taps(image.height, height));
    let stride = image.width as usize * channels;
    let mut out = Vec::with_capacity(columns.len() * rows.len() * channels);
    for channel in 0..channels {
        for row in &rows {
            let upper = &image.pixels[row.low * stride..][..stride];
            let lower = &image.pixels[row.high * stride..][..stride];
            out.extend(columns.iter().map(|column| {
                let (left, right) = (column.low * channels + channel, column.high * channels + channel);
                let along = |line: &[u8]| {
                    let (a, b) = (f32::from(line[left]), f32::from(line[right]));
                    a + (b - a) * column.weight
                };
                let (top, bottom) = (along(upper), along(lower));
                top + (bottom - top) * row.weight
            }));
        }
    }
    out
}
