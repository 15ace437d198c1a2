//! Several ways to do the same thing, measured in turns.
//!
//! Each round runs each row once, forwards and backwards by turns, so that other load of the machine affects all
//! rows equally. The result is a row's median, and its ratio to another row of the same run.

type Run<'a> = Box<dyn FnMut() -> f64 + 'a>;

/// The rows that are to be compared.
pub(crate) struct SideBySide<'a> {
    title: String,
    unit: &'static str,
    rows: Vec<(&'static str, Run<'a>)>,
}

impl<'a> SideBySide<'a> {
    pub(crate) fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self { title: title.into(), unit, rows: Vec::new() }
    }

    /// One way to do it; `run` does it once, and says what it cost.
    pub(crate) fn row(mut self, name: &'static str, run: impl FnMut() -> f64 + 'a) -> Self {
        self.rows.push((name, Box::new(run)));
        self
    }

    pub(crate) fn measure(mut self, rounds: usize) -> Figures {
        let mut seen = vec![Vec::with_capacity(rounds); self.rows.len()];
        for round in 0..rounds {
            for turn in 0..self.rows.len() {
                let row = if round % 2 == 0 { turn } else { self.rows.len() - 1 - turn };
                seen[row].push(self.rows[row].1());
            }
        }
        let rows = self.rows.iter().zip(seen).map(|((name, _), seen)| (*name, Spread::of(seen))).collect();
        Figures { title: self.title, unit: self.unit, rows }
    }
}

/// What was measured.
pub(crate) struct Figures {
    title: String,
    unit: &'static str,
    rows: Vec<(&'static str, Spread)>,
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(mut seen: Vec<f64>) -> Self {
        seen.sort_by(f64::total_cmp);
        Self { least: seen[0], median: seen[seen.len() / 2], most: seen[seen.len() - 1] }
    }
}

impl Figures {
    pub(crate) fn median(&self, name: &str) -> f64 {
        let row = self.rows.iter().find(|(row, _)| *row == name).expect("a row that was measured");
        row.1.median
    }

    /// The table, each row beside the row `base`.
    pub(crate) fn print(&self, base: &str) {
        let (title, unit) = (&self.title, format!("median {}", self.unit));
        println!("\n{title}\n  {:<44} {unit:>10} {:>9} {:>9} {:>7}", "", "least", "most", "ratio");
        for (name, Spread { least, median, most }) in &self.rows {
            let ratio = median / self.median(base);
            println!("  {name:<44} {median:>10.2} {least:>9.2} {most:>9.2} {ratio:>7.2}");
        }
    }
}
