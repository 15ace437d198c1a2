//! The printed results.

use crate::worker::Line;

pub(crate) fn print(title: &str, lines: &[Line], calls: usize) {
    println!("{title}");
    println!("worker  served  failed  auth calls  adopted  alone  pushes  polls     median        max");
    for line in lines {
        let Line { worker, served, failed, led, adopted, local, pushes, polls } = line;
        let (median, most) = (quantile(served, 0.5), quantile(served, 1.0));
        println!(
            "{worker:>6}  {:>6}  {failed:>6}  {:>10}  {adopted:>7}  {local:>5}  {pushes:>6}  {polls:>5}  {median:>6.1} ms  {most:>6.1} ms",
            served.len(),
            led + local,
        );
    }
    let all: Vec<f64> = lines.iter().flat_map(|line| line.served.iter().copied()).collect();
    let sum = |what: fn(&Line) -> u64| lines.iter().map(what).sum::<u64>();
    println!(
        "in all: {} served, {} failed, {calls} calls to the auth server, {} pushes, {} polls; p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\n",
        all.len(),
        lines.iter().map(|line| line.failed).sum::<usize>(),
        sum(|line| line.pushes),
        sum(|line| line.polls),
        quantile(&all, 0.5),
        quantile(&all, 0.99),
        quantile(&all, 1.0),
    );
}

/// The smallest value that this share of them does not exceed; 0 if there are none.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
}
