//! Colours, fonts and labels for the pictures of the examples.

use std::error::Error;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

pub(crate) type Drawing = Result<(), Box<dyn Error>>;
pub(crate) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A background of its own, so that it can be read on a dark page too.
pub(crate) const PAPER: RGBColor = RGBColor(252, 252, 250);
pub(crate) const CALL: RGBColor = RGBColor(200, 55, 70);
pub(crate) const WAITING: RGBColor = RGBColor(240, 195, 110);
pub(crate) const SERVED: RGBColor = RGBColor(60, 130, 170);
pub(crate) const INK: RGBColor = RGBColor(45, 50, 60);
pub(crate) const PALE_INK: RGBColor = RGBColor(100, 106, 118);
pub(crate) const FAINT: RGBColor = RGBColor(225, 227, 230);

/// In plotters' measure, which the SVG divides by 1.24.
pub(crate) const HEADLINE: i32 = 28;
pub(crate) const SUBTITLE: i32 = 19;
pub(crate) const LEGEND: i32 = 17;
pub(crate) const LABEL: i32 = 15;

pub(crate) fn text(
    area: &Area<'_>,
    words: &str,
    at: (i32, i32),
    font: &TextStyle<'_>,
    align: HPos,
) -> Drawing {
    area.draw(&Text::new(words.to_owned(), at, font.pos(Pos::new(align, VPos::Center))))?;
    Ok(())
}

pub(crate) fn font(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

pub(crate) fn bold(size: i32) -> TextStyle<'static> {
    ("sans-serif", size, FontStyle::Bold).into_font().color(&INK)
}

/// The constants are small.
pub(crate) fn px(length: u32) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
