//! [`Table`]: rows of text as a markdown table.

use std::fmt;

/// A markdown table, its first column aligned to the left and the others to the right.
pub struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(heads: &[&str]) -> Table {
        Table { lines: vec![heads.iter().map(|&h| h.to_owned()).collect()] }
    }

    /// Adds a row: as many cells as there are headings.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.lines[0].len());
        self.lines.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.lines[0].len();
        let width = |column: usize| self.lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(|c| width(c).max(3)).collect();
        for (i, line) in self.lines.iter().enumerate() {
            for (c, (cell, &width)) in line.iter().zip(&widths).enumerate() {
                match c {
                    0 => write!(f, "| {cell:width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if i == 0 {
                for (c, &width) in widths.iter().enumerate() {
                    match c {
                        0 => write!(f, "| {} |", "-".repeat(width))?,
                        _ => write!(f, " {}: |", "-".repeat(width - 1))?,
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A number with three digits that count, or with all before its point.
pub fn number(v: f64) -> String {
    match v {
        _ if v < 0.1 => format!("{v:.4}"),
        _ if v < 1.0 => format!("{v:.3}"),
        _ if v < 10.0 => format!("{v:.2}"),
        _ if v < 100.0 => format!("{v:.1}"),
        _ => format!("{v:.0}"),
    }
}

/// The middle one of some numbers, or the mean of the two in the middle; `None` of none.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 0 => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        _ => Some(sorted[middle]),
    }
}

/// The geometric mean; `None` of none.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: f64 = values.iter().map(|v| v.ln()).sum();
    (!values.is_empty()).then(|| (logs / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["row", "ns/op"]);
        table.push(["chan_sync".to_owned(), "9.5".to_owned()]);
        let text = "| row       | ns/op |\n| --------- | ----: |\n| chan_sync |   9.5 |\n";
        assert_eq!(table.to_string(), text);
    }

    #[test]
    fn three_digits_count() {
        let numbers = [0.0, 0.02741, 0.4741, 4.741, 47.41, 474.1, 4741.0].map(number);
        assert_eq!(numbers, ["0.0000", "0.0274", "0.474", "4.74", "47.4", "474", "4741"]);
    }

    #[test]
    fn the_middle_is_found() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
        assert_eq!(median(&[]), None);
        assert!((geometric_mean(&[0.5, 2.0]).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}
