//! The parallel runs as a picture: one panel each, naive above ours. A panel has the calls to the auth server, and
//! below them a bar for each request.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use plotters::coord::types::RangedCoordf64;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;
use tokio::time::Instant;

use crate::ink::{
    Area, CALL, Drawing, FAINT, HEADLINE, INK, LABEL, LEGEND, PALE_INK, PAPER, SERVED, SUBTITLE, WAITING,
    bold, font, px, text,
};
use crate::options::Strategy;
use crate::record::{Phase, Request, Run, Span};
use crate::report::millis;

type Plot<'a> = DrawingArea<SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const QUEUED: RGBColor = RGBColor(200, 204, 212);

/// More rows than this nobody reads: a sample is drawn.
const MAX_ROWS: usize = 60;
/// Up to so many rows there is room for a name at each.
const NAMED_ROWS: usize = 20;

/// How much of a row is left white above and below the bar.
const AIR: f64 = 0.12;

const WIDTH: u32 = 1000;
const LEFT: u32 = 118;
const RIGHT: u32 = 34;
const HEADER: u32 = 84;
const TITLE: u32 = 38;
const AXIS: u32 = 26;
const PANEL_GAP: u32 = 10;
const FOOTER: u32 = 32;

/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &Path, runs: &[&Run]) -> Drawing {
    let mut svg = String::new();
    draw(&mut svg, runs)?;
    Ok(std::fs::write(path, svg)?)
}

/// What of a run is drawn, and where.
struct Panel<'a> {
    run: &'a Run,
    /// The calls, as many in a lane as do not overlap; the first lanes, if there are too many.
    lanes: Vec<Vec<Span>>,
    requests: Vec<&'a Request>,
    row_height: u32,
}

impl<'a> Panel<'a> {
    fn new(run: &'a Run) -> Self {
        let mut lanes = lanes(&run.auth_calls);
        lanes.truncate(MAX_ROWS);
        let requests = sample(&run.requests, MAX_ROWS);
        let row_height = if requests.len() > NAMED_ROWS { 6 } else { 16 };
        Self { run, lanes, requests, row_height }
    }

    /// One row is left empty between the calls and the requests.
    fn rows(&self) -> u32 {
        u32::try_from(self.lanes.len() + 1 + self.requests.len()).unwrap_or(u32::MAX)
    }

    fn height(&self) -> u32 {
        TITLE + self.rows() * self.row_height + AXIS + PANEL_GAP
    }

    fn title(&self) -> String {
        let calls = self.run.auth_calls.len();
        let calls = format!("{calls} call{} to the auth server", if calls == 1 { "" } else { "s" });
        match self.run.strategy {
            Strategy::Naive => format!("naive: {calls}"),
            Strategy::Handle => format!("tokenflight, handle: {calls}"),
            Strategy::Recipient => {
                format!("tokenflight, recipient: {calls}, {} TokenReady", self.run.token_ready)
            }
        }
    }

    fn remark(&self) -> String {
        self.omitted().unwrap_or_else(|| match self.run.strategy {
            Strategy::Naive => "each request fetches for itself".into(),
            Strategy::Handle | Strategy::Recipient => "the first request fetches for all".into(),
        })
    }

    /// What the picture leaves out.
    fn omitted(&self) -> Option<String> {
        let drawn: usize = self.lanes.iter().map(Vec::len).sum();
        let (calls, requests) = (self.run.auth_calls.len(), self.run.requests.len());
        let calls = (drawn < calls).then(|| format!("{drawn} of {calls} calls"));
        let requests = (self.requests.len() < requests)
            .then(|| format!("{} of {requests} requests", self.requests.len()));
        let parts: Vec<_> = [calls, requests].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| format!("drawn: {}", parts.join(" and ")))
    }
}

/// Each call in the first lane that is free when it begins.
fn lanes(calls: &[Span]) -> Vec<Vec<Span>> {
    let mut calls = calls.to_vec();
    calls.sort_by_key(|call| call.began);
    let mut lanes: Vec<Vec<Span>> = Vec::new();
    for call in calls {
        let free = lanes.iter_mut().find(|lane| lane.last().is_none_or(|last| last.ended <= call.began));
        match free {
            Some(lane) => lane.push(call),
            None => lanes.push(vec![call]),
        }
    }
    lanes
}

/// At most `most` of them, evenly spread, with the first and the last.
fn sample<T>(all: &[T], most: usize) -> Vec<&T> {
    if all.len() <= most {
        return all.iter().collect();
    }
    (0..most).map(|index| &all[index * (all.len() - 1) / (most - 1)]).collect()
}

fn draw(svg: &mut String, runs: &[&Run]) -> Drawing {
    let panels: Vec<_> = runs.iter().map(|run| Panel::new(run)).collect();
    // One scale for all, so that lengths compare.
    let end = runs.iter().map(|run| last_moment(run)).max().unwrap_or_default();
    let end = (millis(end) * 1.02).max(1.0);

    let height = HEADER + panels.iter().map(Panel::height).sum::<u32>() + FOOTER;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    root.fill(&PAPER)?;
    let (header, mut rest) = root.split_vertically(HEADER);
    draw_header(&header, &panels)?;
    for panel in &panels {
        let (area, below) = rest.split_vertically(panel.height());
        draw_panel(&area, panel, end)?;
        rest = below;
    }
    let middle = px(WIDTH - RIGHT - LEFT) / 2 + px(LEFT);
    text(&rest, "milliseconds since the first request", (middle, 8), &font(LABEL), HPos::Center)?;
    root.present()?;
    Ok(())
}

fn last_moment(run: &Run) -> Duration {
    let served = run.requests.iter().filter_map(|request| request.phases.last()).map(|&(_, end)| end);
    let called = run.auth_calls.iter().map(|call| call.ended);
    served.chain(called).max().map_or(Duration::ZERO, |end| end - run.began)
}

fn draw_header(area: &Area<'_>, panels: &[Panel<'_>]) -> Drawing {
    let requests = panels.first().map_or(0, |panel| panel.run.requests.len());
    let requests = format!("{requests} request{}", if requests == 1 { "" } else { "s" });
    let title = if panels.iter().any(|panel| panel.run.turn.is_some()) {
        format!("{requests}, and the token expires midway")
    } else {
        format!("{requests} at once, and no token yet")
    };
    text(area, &title, (px(LEFT), 28), &bold(HEADLINE), HPos::Left)?;
    let mut entries = vec![(CALL, "call to the auth server"), (WAITING, "waits for its token")];
    // It takes more requests than connections.
    if panels.iter().any(|panel| panel.run.requests.len() > MAX_ROWS) {
        entries.push((QUEUED, "waits for a connection"));
    }
    entries.push((SERVED, "served by the API"));
    let mut left = px(LEFT);
    for (color, name) in entries {
        area.draw(&Rectangle::new([(left, 55), (left + 16, 69)], color.filled()))?;
        text(area, name, (left + 23, 62), &font(LEGEND), HPos::Left)?;
        // There is no measuring of text in an SVG: about half its height a letter.
        left += 48 + 15 * i32::try_from(name.len())? / 2;
    }
    Ok(())
}

fn draw_panel(area: &Area<'_>, panel: &Panel<'_>, end: f64) -> Drawing {
    text(area, &panel.title(), (px(LEFT), 20), &bold(SUBTITLE), HPos::Left)?;
    text(area, &panel.remark(), (px(WIDTH - RIGHT), 20), &font(LEGEND).color(&PALE_INK), HPos::Right)?;
    let rows = f64::from(panel.rows());
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE)
        .margin_left(LEFT)
        .margin_right(RIGHT)
        .margin_bottom(PANEL_GAP)
        .x_label_area_size(AXIS)
        .build_cartesian_2d(0.0..end, 0.0..rows)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(FAINT)
        .x_label_style(font(LABEL))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;

    let plot = chart.plotting_area();
    let since = |moment: Instant| millis(moment.saturating_duration_since(panel.run.began));
    for (row, lane) in panel.lanes.iter().enumerate() {
        for call in lane {
            bar(plot, panel, row, since(call.began)..since(call.ended), CALL)?;
        }
    }
    let first = panel.lanes.len() + 1;
    for (row, request) in panel.requests.iter().enumerate() {
        let mut begin = request.began;
        for &(phase, end) in &request.phases {
            bar(plot, panel, first + row, since(begin)..since(end), color(phase))?;
            begin = end;
        }
    }
    if let Some(turn) = panel.run.turn.map(millis) {
        let line = DashedPathElement::new([(turn, 0.0), (turn, rows)], 4, 3, INK.stroke_width(1));
        plot.draw(&line)?;
        let (words, at) = ("the first token has expired", plot.map_coordinate(&(turn, rows / 2.0)));
        let (left, top) = area.get_base_pixel();
        text(area, words, (at.0 - left - 8, at.1 - top), &font(LABEL), HPos::Right)?;
    }
    draw_names(area, panel)
}

fn color(phase: Phase) -> RGBColor {
    match phase {
        Phase::Waiting => WAITING,
        Phase::Queued => QUEUED,
        Phase::Served => SERVED,
    }
}

/// A bar that is never too short to be seen.
fn bar(plot: &Plot<'_>, panel: &Panel<'_>, row: usize, times: Range<f64>, color: RGBColor) -> Drawing {
    let top = f64::from(panel.rows()) - f64::from(u32::try_from(row)?);
    let least = plot.get_x_range().end / f64::from(WIDTH);
    let end = times.end.max(times.start + least);
    plot.draw(&Rectangle::new([(times.start, top - AIR), (end, top - 1.0 + AIR)], color.filled()))?;
    Ok(())
}

fn draw_names(area: &Area<'_>, panel: &Panel<'_>) -> Drawing {
    let (height, lanes) = (px(panel.row_height), i32::try_from(panel.lanes.len())?);
    let requests = i32::try_from(panel.requests.len())?;
    // The middle of the rows `first` to `first + count`.
    let middle = |first: i32, count: i32| px(TITLE) + first * height + count * height / 2;
    let right = px(LEFT) - 10;
    if lanes > 0 {
        text(area, "auth server", (right, middle(0, lanes)), &font(LABEL), HPos::Right)?;
    }
    if panel.requests.len() <= NAMED_ROWS {
        for row in 0..requests {
            let name = format!("request {}", row + 1);
            text(area, &name, (right, middle(lanes + 1 + row, 1)), &font(LABEL), HPos::Right)?;
        }
    } else {
        let name = format!("{} requests", panel.run.requests.len());
        text(area, &name, (right, middle(lanes + 1, requests)), &font(LABEL), HPos::Right)?;
    }
    Ok(())
}
