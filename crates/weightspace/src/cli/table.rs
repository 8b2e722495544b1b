//! Tables of text in aligned columns.

use std::io::{self, Write};

/// To which side of its column a cell leans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells under a header.
pub struct Table<const COLUMNS: usize> {
    align: [Align; COLUMNS],
    rows: Vec<[String; COLUMNS]>,
}

impl<const COLUMNS: usize> Table<COLUMNS> {
    /// A table with this header.
    pub fn new(header: [(&str, Align); COLUMNS]) -> Self {
        Table { align: header.map(|(_, align)| align), rows: vec![header.map(|(h, _)| h.into())] }
    }

    /// Adds a row.
    pub fn push(&mut self, row: [String; COLUMNS]) {
        self.rows.push(row);
    }

    /// Writes the table, every line behind `indent`, two spaces between columns.
    pub fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max();
        let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), align) in row.iter().zip(widths).zip(self.align) {
                match align {
                    Align::Left => line += &format!("{cell:<width$}  "),
                    Align::Right => line += &format!("{cell:>width$}  "),
                }
            }
            writeln!(out, "{indent}{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new([("name", Align::Left), ("n", Align::Right)]);
        table.push(["é".into(), "1234".into()]);
        let mut out = Vec::new();
        table.write(&mut out, "| ").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "| name     n\n| é     1234\n");
    }
}
