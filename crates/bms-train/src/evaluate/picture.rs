//! The confusion matrix as a picture.

use bms_wire::Result;
use plotters::prelude::{
    Color, IntoDrawingArea, IntoFont, RGBColor, Rectangle, SVGBackend, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::curves::drawing;

/// Room for the row names and the title.
const MARGIN: i32 = 90;
/// Side of the square the cells share, at most.
const SIDE: i32 = 640;
/// Above this many labels, counts no longer fit their cells.
const COUNTED_LABELS_MAX: usize = 25;
/// Characters of a label that fit the margin.
const LABEL_CHARS_MAX: usize = 11;

/// An SVG of `matrix`: rows are true labels, columns answered ones; a cell's colour is its share of its row.
pub(super) fn confusion(labels: &[&str], matrix: &[Vec<u64>]) -> Result<String> {
    let count = labels.len() as i32;
    let cell = (SIDE / count.max(1)).clamp(4, 56);
    let side = (cell * count + MARGIN + 20) as u32;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (side, side)).into_drawing_area();
        area.fill(&WHITE).map_err(drawing)?;
        let small = (cell / 2).clamp(4, 14);
        let black = RGBColor(0, 0, 0);
        let title = style(14, (HPos::Left, VPos::Center), black);
        area.draw(&Text::new("rows: true label, columns: answer", (MARGIN, 14), title)).map_err(drawing)?;
        for (idx, (label, row)) in labels.iter().zip(matrix).enumerate() {
            let (at, name) = (MARGIN + cell * idx as i32, short(label));
            let left = style(small, (HPos::Right, VPos::Center), black);
            area.draw(&Text::new(name.clone(), (MARGIN - 6, at + cell / 2), left)).map_err(drawing)?;
            let above = style(small, (HPos::Center, VPos::Bottom), black);
            // Neighbouring names would overlap; every second one is a line higher.
            let lift =
                if labels.iter().any(|label| 3 < label.chars().count()) { idx as i32 % 2 * 16 } else { 0 };
            area.draw(&Text::new(name, (at + cell / 2, MARGIN - 6 - lift), above)).map_err(drawing)?;
            let support: u64 = row.iter().sum();
            for (answer, &cases) in row.iter().enumerate() {
                let share = cases as f64 / support.max(1) as f64;
                let left = MARGIN + cell * answer as i32;
                let square = [(left, at), (left + cell - 1, at + cell - 1)];
                area.draw(&Rectangle::new(square, shade(share, answer == idx).filled())).map_err(drawing)?;
                if labels.len() <= COUNTED_LABELS_MAX && cases != 0 {
                    let colour = if 0.5 < share { RGBColor(255, 255, 255) } else { black };
                    let centre = (left + cell / 2, at + cell / 2);
                    let style = style(small, (HPos::Center, VPos::Center), colour);
                    area.draw(&Text::new(cases.to_string(), centre, style)).map_err(drawing)?;
                }
            }
        }
        area.present().map_err(drawing)?;
    }
    Ok(svg)
}

/// Text of this size and colour, anchored so.
fn style(size: i32, (horizontal, vertical): (HPos, VPos), colour: RGBColor) -> TextStyle<'static> {
    TextStyle {
        font: ("sans-serif", size).into_font(),
        color: colour.to_backend_color(),
        pos: Pos::new(horizontal, vertical),
    }
}

/// White to blue for right answers, to red for wrong ones; wrong ones are rarer and get more colour.
fn shade(share: f64, right: bool) -> RGBColor {
    let (full, strength) = if right { ([31, 90, 160], share) } else { ([190, 50, 30], share.sqrt()) };
    let mix = |to: i32| (255.0 + (f64::from(to) - 255.0) * strength.clamp(0.0, 1.0)).round() as u8;
    RGBColor(mix(full[0]), mix(full[1]), mix(full[2]))
}

fn short(label: &str) -> String {
    match LABEL_CHARS_MAX < label.chars().count() {
        true => label.chars().take(LABEL_CHARS_MAX - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}
