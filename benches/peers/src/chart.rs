//! The picture for the README: the cost of a read, and the number of calls to a failing source.

use std::error::Error;
use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::measured::Measured;
use crate::row::Kind;

type Drawing = Result<(), Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A background of its own, so that it can be read on a dark page too.
const PAPER: RGBColor = RGBColor(252, 252, 250);
const INK: RGBColor = RGBColor(45, 50, 60);
const PALE_INK: RGBColor = RGBColor(100, 106, 118);
const OURS: RGBColor = RGBColor(60, 130, 170);
const PEER: RGBColor = RGBColor(200, 55, 70);
const PRIMITIVE: RGBColor = RGBColor(170, 174, 182);

const WIDTH: u32 = 1000;
const HEADER: i32 = 78;
const ROW: i32 = 25;
const FOOTER: i32 = 40;
const BAR: i32 = 15;

/// Where names end, and where each panel's bars begin and end at most.
const NAMES: i32 = 356;
const READS: (i32, i32) = (366, 630);
const CALLS: (i32, i32) = (720, 940);

/// In plotters' measure, which the SVG divides by 1.24.
const HEADLINE: i32 = 24;
const LABEL: i32 = 17;
const REMARK: i32 = 15;

/// The case that is drawn beside the reads, by its place in the table.
const SOURCE_FAILS: usize = 2;
const CALLERS: f64 = 50.0;

struct Line<'a> {
    name: String,
    color: RGBColor,
    kind: Kind,
    /// One thread.
    read: Option<f64>,
    /// By 50 callers.
    calls: Option<f64>,
    measured: &'a Measured,
}

impl<'a> Line<'a> {
    fn new(measured: &'a Measured) -> Self {
        let color = match measured.row.kind {
            Kind::Ours => OURS,
            Kind::Peer => PEER,
            Kind::Primitive => PRIMITIVE,
        };
        let calls = match measured.costs.get(SOURCE_FAILS) {
            Some(Ok(Some(cost))) => Some(cost.calls),
            _ => None,
        };
        Self {
            name: measured.row.name.replace('`', ""),
            color,
            kind: measured.row.kind,
            read: measured.hot[0],
            calls: calls.and_then(|calls| u32::try_from(calls).ok()).map(f64::from),
            measured,
        }
    }

    /// Whether callers got a token that had ended instead of an error: no call is no virtue then.
    fn stale(&self) -> bool {
        matches!(self.measured.costs.get(SOURCE_FAILS), Some(Ok(Some(cost))) if cost.stale > 0)
    }
}

/// # Errors
/// The file cannot be written.
pub fn draw(all: &[Measured], file: &Path) -> Drawing {
    let mut lines: Vec<_> = all.iter().map(Line::new).filter(|line| line.read.is_some()).collect();
    lines.sort_by(|one, other| one.read.unwrap_or(f64::MAX).total_cmp(&other.read.unwrap_or(f64::MAX)));
    let mut svg = String::new();
    picture(&mut svg, &lines)?;
    std::fs::write(file, svg)?;
    Ok(())
}

fn picture(svg: &mut String, lines: &[Line<'_>]) -> Drawing {
    let height = HEADER + ROW * i32::try_from(lines.len())? + FOOTER;
    let area = SVGBackend::with_string(svg, (WIDTH, u32::try_from(height)?)).into_drawing_area();
    area.fill(&PAPER)?;
    text(&area, "Reading a fresh token", (READS.0, 26), HEADLINE, INK, HPos::Left)?;
    text(&area, "one thread", (READS.0, 52), REMARK, PALE_INK, HPos::Left)?;
    text(&area, "50 callers, source fails", (CALLS.0, 26), HEADLINE, INK, HPos::Left)?;
    text(&area, "calls to the source", (CALLS.0, 52), REMARK, PALE_INK, HPos::Left)?;
    let longest = |value: fn(&Line<'_>) -> Option<f64>| lines.iter().filter_map(value).fold(1.0, f64::max);
    let (slowest, most) = (longest(|line| line.read), longest(|line| line.calls).max(CALLERS));
    for (index, line) in lines.iter().enumerate() {
        let middle = HEADER + ROW * i32::try_from(index)? + ROW / 2;
        draw_line(&area, line, middle, slowest, most)?;
    }
    let footer = "blue: tokenflight; red: other crates; grey: bare primitives, which fetch nothing";
    text(&area, footer, (READS.0, height - FOOTER / 2), REMARK, PALE_INK, HPos::Left)?;
    area.present()?;
    Ok(())
}

fn draw_line(area: &Area<'_>, line: &Line<'_>, middle: i32, slowest: f64, most: f64) -> Drawing {
    let ink = if line.kind == Kind::Primitive { PALE_INK } else { INK };
    text(area, &line.name, (NAMES, middle), LABEL, ink, HPos::Right)?;
    if let Some(read) = line.read {
        bar(area, line.color, READS, middle, read / slowest, &format!("{read:.0} ns"))?;
    }
    if let Some(calls) = line.calls {
        let label = if line.stale() { format!("{calls} (expired token)") } else { calls.to_string() };
        bar(area, line.color, CALLS, middle, calls / most, &label)?;
    }
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // pixels
fn bar(
    area: &Area<'_>,
    color: RGBColor,
    (left, right): (i32, i32),
    middle: i32,
    share: f64,
    label: &str,
) -> Drawing {
    let end = left + (f64::from(right - left) * share).round() as i32;
    area.draw(&Rectangle::new([(left, middle - BAR / 2), (end, middle + BAR / 2)], color.filled()))?;
    text(area, label, (end + 6, middle), REMARK, INK, HPos::Left)
}

fn text(area: &Area<'_>, what: &str, at: (i32, i32), size: i32, color: RGBColor, side: HPos) -> Drawing {
    let style = TextStyle::from(("sans-serif", size)).color(&color).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(what.to_owned(), at, style))?;
    Ok(())
}
