//! Two panels over the same time: the calls to the auth server, and the duration of each request to the service.

use std::time::Duration;

use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::ink::{
    Area, CALL, Drawing, FAINT, HEADLINE, INK, LABEL, LEGEND, PALE_INK, PAPER, SERVED, SUBTITLE, WAITING,
    bold, font, px, text,
};
use crate::record::{Kind, Record};
use crate::{END, OUTAGE, TENANTS};

const WIDTH: u32 = 1000;
const LEFT: u32 = 78;
const RIGHT: u32 = 34;
const HEADER: u32 = 84;
const TITLE: u32 = 38;
const PANEL: u32 = 260;
const FOOTER: u32 = 32;
/// The calls of so long a time are one bar.
const STEP: Duration = Duration::from_millis(100);
const DOWN: RGBColor = RGBColor(240, 236, 228);

/// # Errors
/// The file cannot be written.
pub(crate) fn write(path: &str, record: &Record) -> Drawing {
    let mut svg = String::new();
    draw(&mut svg, record)?;
    Ok(std::fs::write(path, svg)?)
}

fn draw(svg: &mut String, record: &Record) -> Drawing {
    let root = SVGBackend::with_string(svg, (WIDTH, HEADER + 2 * PANEL + FOOTER)).into_drawing_area();
    root.fill(&PAPER)?;
    let (header, rest) = root.split_vertically(HEADER);
    draw_header(&header, record)?;
    let (calls, rest) = rest.split_vertically(PANEL);
    draw_calls(&calls, record)?;
    let (waits, below) = rest.split_vertically(PANEL);
    draw_waits(&waits, record)?;
    let middle = px(WIDTH - RIGHT - LEFT) / 2 + px(LEFT);
    text(&below, "seconds", (middle, 8), &font(LABEL), HPos::Center)?;
    root.present()?;
    Ok(())
}

fn draw_header(area: &Area<'_>, record: &Record) -> Drawing {
    let title =
        format!("{TENANTS} tenants, {} requests, {} calls", record.requests.len(), record.calls.len());
    text(area, &title, (px(LEFT), 28), &bold(HEADLINE), HPos::Left)?;
    let mut left = px(LEFT);
    let entries = [
        (SERVED, "served"),
        (CALL, "refused"),
        (WAITING, "a wrong secret, or rejected by the API"),
        (DOWN, "the auth server is down"),
    ];
    for (color, name) in entries {
        area.draw(&Rectangle::new([(left, 55), (left + 16, 69)], color.filled()))?;
        text(area, name, (left + 23, 62), &font(LEGEND), HPos::Left)?;
        left += 48 + 15 * i32::try_from(name.len())? / 2;
    }
    Ok(())
}

/// Bars of calls, and above those that were answered the ones that were not.
fn draw_calls(area: &Area<'_>, record: &Record) -> Drawing {
    let bars = END.as_millis() / STEP.as_millis() + 1;
    let mut counts = vec![(0.0, 0.0); usize::try_from(bars)?];
    for call in &record.calls {
        let place = usize::try_from(call.at.as_millis() / STEP.as_millis())?;
        if let Some((served, refused)) = counts.get_mut(place) {
            *(if call.status == 200 { served } else { refused }) += 1.0;
        }
    }
    let most = counts.iter().map(|(served, refused)| served + refused).fold(1.0_f64, f64::max);
    let subtitle = "calls to the auth server, in each tenth of a second; at most 16 at once";
    panel(area, subtitle, most * 1.08, |plot| {
        for (place, (served, refused)) in counts.iter().enumerate() {
            let from = f64::from(u32::try_from(place)?) * STEP.as_secs_f64();
            let to = from + STEP.as_secs_f64() * 0.85;
            plot.draw(&Rectangle::new([(from, 0.0), (to, *served)], SERVED.filled()))?;
            plot.draw(&Rectangle::new([(from, *served), (to, served + refused)], CALL.filled()))?;
        }
        Ok(())
    })
}

/// A dot for each request.
fn draw_waits(area: &Area<'_>, record: &Record) -> Drawing {
    let most =
        record.requests.iter().map(|request| request.took.as_secs_f64() * 1_000.0).fold(1.0_f64, f64::max);
    panel(area, "how long each request to the service took, in milliseconds", most * 1.08, |plot| {
        for request in &record.requests {
            let color = match (Kind::of(request.tenant), request.status) {
                (Kind::Healthy, 200) => SERVED,
                (Kind::Healthy, _) => CALL,
                _ => WAITING,
            };
            let at = (request.at.as_secs_f64(), request.took.as_secs_f64() * 1_000.0);
            plot.draw(&Circle::new(at, 2, color.filled()))?;
        }
        Ok(())
    })
}

type Plot<'a> = DrawingArea<
    SVGBackend<'a>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn panel(area: &Area<'_>, subtitle: &str, most: f64, content: impl FnOnce(&Plot<'_>) -> Drawing) -> Drawing {
    text(area, subtitle, (px(LEFT), 20), &bold(SUBTITLE), HPos::Left)?;
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE)
        .margin_left(20)
        .margin_right(RIGHT)
        .x_label_area_size(26)
        .y_label_area_size(LEFT - 20)
        .build_cartesian_2d(0.0..END.as_secs_f64(), 0.0..most)?;
    let down = [(OUTAGE.start.as_secs_f64(), 0.0), (OUTAGE.end.as_secs_f64(), most)];
    chart.plotting_area().draw(&Rectangle::new(down, DOWN.filled()))?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(FAINT)
        .light_line_style(TRANSPARENT)
        .axis_style(PALE_INK)
        .label_style(font(LABEL).color(&INK))
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    content(chart.plotting_area())
}
