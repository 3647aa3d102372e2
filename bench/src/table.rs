//! The table: amounts, ratios, budgets. Knows nothing of how they came about.

use std::fmt;

/// A measured amount.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    /// In seconds.
    Time(f64),
    /// In bytes.
    Memory(f64),
    /// Per second.
    Rate(f64),
}

impl Amount {
    fn value(self) -> f64 {
        match self {
            Self::Time(value) | Self::Memory(value) | Self::Rate(value) => value,
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, unit) = match *self {
            Self::Time(time) if time.abs() < 1e-3 => (time * 1e6, "µs"),
            Self::Time(time) if time.abs() < 1.0 => (time * 1e3, "ms"),
            Self::Time(time) => (time, "s"),
            Self::Memory(bytes) if bytes.abs() < 1024.0 * 1024.0 => (bytes / 1024.0, "KiB"),
            Self::Memory(bytes) => (bytes / 1024.0 / 1024.0, "MiB"),
            Self::Rate(rate) => (rate, "/s"),
        };
        let digits = match value.abs() {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        };
        write!(f, "{value:.digits$} {unit}")
    }
}

/// What a row may come to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// So many times the reference.
    Ratio(f64),
    /// So much more than the reference.
    More(Amount),
    /// So much, whatever the reference.
    Most(Amount),
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) presocks: Amount,
    /// Its name and its amount.
    pub(crate) reference: Option<(String, Amount)>,
    pub(crate) budget: Option<Budget>,
}

impl Row {
    fn cells(&self) -> [String; COLUMNS] {
        let ours = self.presocks.value();
        let theirs = self.reference.as_ref().map(|(_, amount)| amount.value());
        let ratio = theirs.map(|theirs| ours / theirs);
        let more = theirs.map(|theirs| ours - theirs);
        let (budget, is_kept) = match self.budget {
            None => (String::new(), None),
            Some(Budget::Ratio(most)) => (format!("≤ {most:.2} ×"), ratio.map(|ratio| ratio <= most)),
            Some(Budget::More(most)) => (format!("≤ +{most}"), more.map(|more| more <= most.value())),
            Some(Budget::Most(most)) => (format!("≤ {most}"), Some(ours <= most.value())),
        };
        let verdict = match is_kept {
            Some(true) => " kept",
            Some(false) => " EXCEEDED",
            None => "",
        };
        let (name, amount) =
            self.reference.as_ref().map_or(("", String::new()), |(name, amount)| (name, amount.to_string()));
        [
            self.what.clone(),
            self.presocks.to_string(),
            name.to_owned(),
            amount,
            ratio.map_or(String::new(), |ratio| format!("{ratio:.2} ×")),
            format!("{budget}{verdict}"),
        ]
    }
}

const COLUMNS: usize = 6;
const HEADS: [&str; COLUMNS] = ["what", "presocks", "against", "", "ratio", "budget"];

/// Rows, and remarks on them.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

impl Table {
    /// Adds rows at the end.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Adds a remark, to stand below the table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            [HEADS.map(str::to_owned)].into_iter().chain(self.rows.iter().map(Row::cells)).collect();
        let mut widths = [0; COLUMNS];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut before = "";
        for line in &lines {
            for (column, (width, cell)) in widths.iter().zip(line).enumerate() {
                let is_repeated = column == 0 && cell == before;
                let cell = if is_repeated { "" } else { cell.as_str() };
                match column {
                    0 | 2 => write!(f, "{cell:<width$}  ")?,
                    5 => writeln!(f, "{cell}")?,
                    _ => write!(f, "{cell:>width$}  ")?,
                }
            }
            before = line.first().map_or("", String::as_str);
        }
        for note in &self.notes {
            writeln!(f, "* {note}")?;
        }
        Ok(())
    }
}

/// The median; not a number when there is nothing to take it of.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_budget_is_judged_by_what_it_limits() {
        let mut row = Row {
            what: "start".into(),
            presocks: Amount::Time(0.0012),
            reference: Some(("bare".into(), Amount::Time(0.0006))),
            budget: Some(Budget::More(Amount::Time(0.001))),
        };
        let last = |row: &Row| row.cells()[5].clone();
        assert_eq!(last(&row), "≤ +1.00 ms kept");
        row.budget = Some(Budget::Ratio(1.5));
        assert_eq!(last(&row), "≤ 1.50 × EXCEEDED");
        row.budget = Some(Budget::Most(Amount::Time(0.0012)));
        assert_eq!(last(&row), "≤ 1.20 ms kept");
    }
}
