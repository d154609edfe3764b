//! What the tables must hold: rows by hand, so that expected answers come from no server.

use std::collections::{BTreeMap, BTreeSet};

/// A row, each value as text; NULL is `NULL`.
pub(crate) type Row = Vec<String>;

/// Tables by name; the rows of each in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) tables: BTreeMap<&'static str, Vec<Row>>,
    /// What else was made and is not seen in rows.
    pub(crate) made: BTreeSet<&'static str>,
}

/// Why a statement has to fail: it names a table that is not there, or one that is.
#[derive(Debug)]
pub(crate) struct MustFail;

pub(crate) type Effect = fn(&mut Model) -> Result<(), MustFail>;

impl Model {
    pub(crate) fn create(&mut self, name: &'static str, rows: Vec<Row>) -> Result<(), MustFail> {
        if self.tables.contains_key(name) {
            return Err(MustFail);
        }
        self.tables.insert(name, Vec::new());
        self.insert(name, rows)
    }

    pub(crate) fn rows(&mut self, name: &str) -> Result<&mut Vec<Row>, MustFail> {
        self.tables.get_mut(name).ok_or(MustFail)
    }

    /// Adds rows, with NULLs for columns that they lack.
    pub(crate) fn insert(&mut self, name: &str, rows: Vec<Row>) -> Result<(), MustFail> {
        let width = self.width(name)?;
        let table = self.rows(name)?;
        for mut row in rows {
            if let Some(width) = width {
                row.resize(width, "NULL".to_owned());
            }
            table.push(row);
        }
        Ok(())
    }

    /// How many columns a table has; unknown while it is empty.
    fn width(&mut self, name: &str) -> Result<Option<usize>, MustFail> {
        Ok(self.rows(name)?.first().map(Vec::len))
    }

    /// Rows in order, as they are compared.
    pub(crate) fn sorted(&self, name: &str) -> Option<Vec<Row>> {
        let mut rows = self.tables.get(name)?.clone();
        rows.sort_unstable();
        Some(rows)
    }
}

/// A row of these values.
pub(crate) fn row<const N: usize>(values: [&dyn ToString; N]) -> Row {
    values.iter().map(|value| value.to_string()).collect()
}

pub(crate) fn number(row: &Row) -> i64 {
    row[0].parse().unwrap()
}
