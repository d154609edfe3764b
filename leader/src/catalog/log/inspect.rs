//! What is wrong with a catalog file, as far as the file itself tells.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::CatalogLog;
use crate::error::{Error, Result, chain};

impl CatalogLog {
    /// What is wrong with the file: with its pages, between its tables, and with what its rows say.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = pages(&self.connection).unwrap_or_else(|error| vec![chain(&error)]);
        let lost = "SELECT 'row ' || ifnull(rowid, '?') || ' of ' || \"table\" || ' belongs to no row of ' \
                    || parent FROM pragma_foreign_key_check";
        match texts(&self.connection, lost) {
            Ok(lines) => problems.extend(lines),
            Err(error) => problems.push(chain(&error)),
        }
        if let Err(error) = self.read() {
            problems.push(chain(&error));
        }
        problems
    }

    /// All rows as texts, by table. Two catalogs that hold the same have the same rows, but for the
    /// times of commits. The digests are of all this, and of these times.
    pub fn rows(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let tables = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' \
             AND name <> 'digests'";
        let mut rows = BTreeMap::new();
        for table in texts(&self.connection, tables)? {
            let columns = "SELECT group_concat('quote(\"' || name || '\")', ' || '','' || ') \
                           FROM pragma_table_info(?1) WHERE name <> 'committed_at'";
            let columns: String = self.connection.query_row(columns, [&table], |row| row.get(0))?;
            let sql = format!("SELECT {columns} FROM \"{table}\"");
            let mut found = texts(&self.connection, &sql)?;
            found.sort_unstable();
            rows.insert(table, found);
        }
        Ok(rows)
    }
}

/// What is wrong with pages and indexes.
pub(super) fn pages(connection: &Connection) -> Result<Vec<String>> {
    let mut lines = texts(connection, "SELECT integrity_check FROM pragma_integrity_check")?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut query = connection.prepare(sql)?;
    let rows = query.query_map([], |row| row.get(0))?;
    rows.collect::<rusqlite::Result<_>>().map_err(Error::from)
}
