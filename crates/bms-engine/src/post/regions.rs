//! A map of where text is to four-cornered regions: differentiable binarisation (Liao et al., 2020) as RapidOCR's
//! `DBPostProcess` computes it.
//!
//! Holes of a region are no regions here. A region is widened by its rectangle's sides, where the original offsets the
//! polygon with round corners and takes the rectangle of that: the same but for rounding to whole pixels.

use bms_data::Frame;
use bms_wire::LinesOutput;

/// Pixels of the shorter side, at least, before it is widened.
const SIDE_MIN: f32 = 3.0;
/// Rows that the upper edges of two regions of one line differ by, less than.
const LINE_ROWS: f32 = 10.0;

/// Four corners, from the upper left one clockwise.
pub(crate) type Corners = [[f32; 2]; 4];

/// The regions of a map of `width` columns, in pixels of the original, in the order one reads them.
pub(crate) fn find(output: &LinesOutput, map: &[f32], width: usize, frame: &Frame) -> Vec<Corners> {
    let height = map.len() / width.max(1);
    let scale = [frame.width as f32 / width as f32, frame.height as f32 / height as f32];
    let most = [frame.width as f32, frame.height as f32];
    let mut regions = Vec::new();
    for outline in outlines(map, width, output.threshold, output.regions_max) {
        let tight = Rectangle::around(&outline);
        if tight.shorter() < SIDE_MIN || mean_within(map, width, height, &tight.corners()) < output.region_min
        {
            continue;
        }
        let wide = unclipped(&tight, output.unclip);
        if wide.shorter() < SIDE_MIN + 2.0 {
            continue;
        }
        let to_original = |at: [f32; 2]| {
            std::array::from_fn(|axis| {
                (at[axis] * scale[axis]).round_ties_even().clamp(0.0, most[axis] - 1.0)
            })
        };
        let corners = ordered(wide.corners().map(to_original));
        let long =
            |a: usize, b: usize| f32::hypot(corners[a][0] - corners[b][0], corners[a][1] - corners[b][1]);
        if 4.0 <= long(0, 1) && 4.0 <= long(0, 3) {
            regions.push(corners);
        }
    }
    in_reading_order(regions)
}

/// From above to below; regions whose upper left corners are nearly as high are one line, from the left.
fn in_reading_order(mut regions: Vec<Corners>) -> Vec<Corners> {
    regions.sort_by(|a, b| a[0][1].total_cmp(&b[0][1]));
    let mut line = 0;
    let mut numbered: Vec<(usize, Corners)> = Vec::with_capacity(regions.len());
    for region in regions {
        if numbered.last().is_some_and(|(_, above)| LINE_ROWS <= region[0][1] - above[0][1]) {
            line += 1;
        }
        numbered.push((line, region));
    }
    numbered.sort_by(|(a, left), (b, right)| a.cmp(b).then(left[0][0].total_cmp(&right[0][0])));
    numbered.into_iter().map(|(_, region)| region).collect()
}

/// The leftmost and rightmost pixel of each row of each connected region (also over corners), at most so many regions.
fn outlines(map: &[f32], width: usize, threshold: f32, most: usize) -> Vec<Vec<[f32; 2]>> {
    let height = map.len() / width.max(1);
    let mut seen: Vec<bool> = map.iter().map(|&value| value <= threshold).collect();
    let (mut found, mut waiting) = (Vec::new(), Vec::new());
    for start in 0..seen.len() {
        if seen[start] || found.len() == most {
            continue;
        }
        let top = start / width;
        let mut rows: Vec<[usize; 2]> = Vec::new();
        seen[start] = true;
        waiting.push(start);
        while let Some(at) = waiting.pop() {
            let (x, y) = (at % width, at / width);
            // The first pixel found of a region is in its highest row.
            if rows.len() <= y - top {
                rows.resize(y - top + 1, [usize::MAX, 0]);
            }
            let row = &mut rows[y - top];
            *row = [row[0].min(x), row[1].max(x)];
            for near_y in y.saturating_sub(1)..=(y + 1).min(height - 1) {
                for near_x in x.saturating_sub(1)..=(x + 1).min(width - 1) {
                    let near = near_y * width + near_x;
                    if !std::mem::replace(&mut seen[near], true) {
                        waiting.push(near);
                    }
                }
            }
        }
        let ends = |(y, [left, right]): (usize, &[usize; 2])| {
            [[*left as f32, (top + y) as f32], [*right as f32, (top + y) as f32]]
        };
        found.push(rows.iter().enumerate().flat_map(ends).collect());
    }
    found
}

/// A rectangle at any angle.
#[derive(Clone, Copy, Debug)]
struct Rectangle {
    /// Direction of its first side, of length 1.
    along: [f32; 2],
    /// Least and greatest place along that direction, and across it.
    spans: [[f32; 2]; 2],
}

impl Rectangle {
    /// The smallest around some points: one of its sides lies on a side of their convex hull.
    fn around(points: &[[f32; 2]]) -> Rectangle {
        let hull = hull(points);
        let with = |along: [f32; 2]| {
            let across = [-along[1], along[0]];
            let span = |axis: [f32; 2]| {
                hull.iter().fold([f32::INFINITY, f32::NEG_INFINITY], |[least, most], point| {
                    let at = point[0] * axis[0] + point[1] * axis[1];
                    [least.min(at), most.max(at)]
                })
            };
            Rectangle { along, spans: [span(along), span(across)] }
        };
        let side = |index: usize| {
            let (a, b) = (hull[index], hull[(index + 1) % hull.len()]);
            let length = f32::hypot(b[0] - a[0], b[1] - a[1]);
            (0.0 < length).then(|| with([(b[0] - a[0]) / length, (b[1] - a[1]) / length]))
        };
        let rectangles = (0..hull.len()).filter_map(side);
        let smallest = rectangles.min_by(|a, b| a.area().total_cmp(&b.area()));
        smallest.unwrap_or_else(|| with([1.0, 0.0]))
    }

    fn sides(&self) -> [f32; 2] {
        self.spans.map(|[least, most]| most - least)
    }

    fn shorter(&self) -> f32 {
        let [a, b] = self.sides();
        a.min(b)
    }

    fn area(&self) -> f32 {
        let [a, b] = self.sides();
        a * b
    }

    /// As far larger on every side.
    fn widened(self, by: f32) -> Rectangle {
        Rectangle { spans: self.spans.map(|[least, most]| [least - by, most + by]), ..self }
    }

    fn corners(&self) -> Corners {
        let place = |along: f32, across: f32| {
            [along * self.along[0] - across * self.along[1], along * self.along[1] + across * self.along[0]]
        };
        let [[a, b], [c, d]] = self.spans;
        ordered([place(a, c), place(b, c), place(b, d), place(a, d)])
    }
}

/// Corners from the upper left one clockwise: the two on the left first, the higher first.
fn ordered(mut corners: Corners) -> Corners {
    corners.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let [mut left, mut right] = [[corners[0], corners[1]], [corners[2], corners[3]]];
    left.sort_by(|a, b| a[1].total_cmp(&b[1]));
    right.sort_by(|a, b| a[1].total_cmp(&b[1]));
    [left[0], right[0], right[1], left[1]]
}

/// The convex hull, by Andrew's monotone chain.
fn hull(points: &[[f32; 2]]) -> Vec<[f32; 2]> {
    let mut points = points.to_vec();
    points.sort_by(|a, b| a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1])));
    points.dedup();
    if points.len() < 3 {
        return points;
    }
    let mut hull = half_hull(points.iter());
    hull.extend(half_hull(points.iter().rev()));
    hull
}

/// One side of the hull of points that are sorted, without the last of them.
fn half_hull<'a>(points: impl Iterator<Item = &'a [f32; 2]>) -> Vec<[f32; 2]> {
    let turn =
        |a: [f32; 2], b: [f32; 2], c: [f32; 2]| (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]);
    let mut chain: Vec<[f32; 2]> = Vec::new();
    for &point in points {
        while let [.., a, b] = chain[..]
            && turn(a, b, point) <= 0.0
        {
            chain.pop();
        }
        chain.push(point);
    }
    chain.pop();
    chain
}

/// The region before it was shrunk for training: `area * ratio / circumference` further on every side. Corners are cut to
/// whole pixels first, as the library for polygons does that the original uses.
fn unclipped(tight: &Rectangle, ratio: f32) -> Rectangle {
    let [a, b] = tight.sides();
    let distance = a * b * ratio / (2.0 * (a + b));
    Rectangle::around(&tight.corners().map(|corner| corner.map(f32::trunc))).widened(distance)
}

/// The mean of the map within four corners, edges included.
fn mean_within(map: &[f32], width: usize, height: usize, corners: &Corners) -> f32 {
    let bounds = |axis: usize, length: usize| {
        let least = corners.iter().map(|corner| corner[axis]).fold(f32::INFINITY, f32::min);
        let most = corners.iter().map(|corner| corner[axis]).fold(f32::NEG_INFINITY, f32::max);
        let within = |at: f32| at.clamp(0.0, (length - 1) as f32) as usize;
        (within(least.floor()), within(most.ceil()))
    };
    let ((left, right), (top, bottom)) = (bounds(0, width), bounds(1, height));
    let whole = corners.map(|corner| corner.map(f32::trunc));
    let is_within = |x: f32, y: f32| {
        (0..4).all(|index| {
            let (a, b) = (whole[index], whole[(index + 1) % 4]);
            0.0 <= (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        })
    };
    let (mut sum, mut count) = (0.0f64, 0u32);
    for y in top..=bottom {
        for x in left..=right {
            if is_within(x as f32, y as f32) {
                sum += f64::from(map[y * width + x]);
                count += 1;
            }
        }
    }
    if count == 0 { 0.0 } else { (sum / f64::from(count)) as f32 }
}
