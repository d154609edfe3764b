//! What is wrong with a catalog file, as far as the file itself tells.

use std::collections::BTreeMap;

use super::CatalogLog;
use crate::error::{Error, Result, chain};

impl CatalogLog {
    /// What is wrong with the file: with its pages, between its tables, and with what its rows say.
    pub fn problems(&self) -> Vec<String> {
        let pages = self.texts("SELECT integrity_check FROM pragma_integrity_check");
        let mut problems = match pages {
            Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
            Err(error) => vec![chain(&error)],
        };
        let lost = "SELECT 'row ' || ifnull(rowid, '?') || ' of ' || \"table\" || ' belongs to no row of ' \
                    || parent FROM pragma_foreign_key_check";
        match self.texts(lost) {
            Ok(lines) => problems.extend(lines),
            Err(error) => problems.push(chain(&error)),
        }
        if let Err(error) = self.read() {
            problems.push(chain(&error));
        }
        problems
    }

    /// All rows as texts, by table. Two catalogs that hold the same have the same rows, but for the
    /// times of commits.
    pub fn rows(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let tables =
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
        let mut rows = BTreeMap::new();
        for table in self.texts(tables)? {
            let columns = "SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ') \
                           FROM pragma_table_info(?1) WHERE name <> 'committed_at'";
            let columns: String = self.connection.query_row(columns, [&table], |row| row.get(0))?;
            let mut found = self.texts(&format!("SELECT {columns} FROM \"{table}\""))?;
            found.sort_unstable();
            rows.insert(table, found);
        }
        Ok(rows)
    }

    fn texts(&self, sql: &str) -> Result<Vec<String>> {
        let mut query = self.connection.prepare(sql)?;
        let rows = query.query_map([], |row| row.get(0))?;
        rows.collect::<rusqlite::Result<_>>().map_err(Error::from)
    }
}
