//! Keys of tables: kept and shown, never enforced, as in Redshift.

use serde::{Deserialize, Serialize};
use storage::ids::{ColumnId, TableId};

use super::{Snapshot, TableEntry};
use crate::error::{Error, Result};

/// A PRIMARY KEY, UNIQUE or REFERENCES constraint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConstraintEntry {
    /// Its number, never used again.
    pub oid: u32,
    /// Its name.
    pub name: String,
    /// Positions of its columns.
    pub columns: Vec<usize>,
    /// What it says of them.
    pub kind: ConstraintKind,
}

/// What a constraint says of its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConstraintKind {
    /// PRIMARY KEY
    PrimaryKey,
    /// UNIQUE
    Unique,
    /// REFERENCES: the names that the statement used, whether or not they exist.
    ForeignKey {
        /// The referenced table's schema; without one the search path decided.
        schema: Option<String>,
        /// The referenced table.
        table: String,
        /// The referenced columns; empty for its primary key.
        referenced: Vec<String>,
        /// What the names stood for, if there was such a table: it may be renamed.
        found: Option<Referenced>,
    },
}

/// A table and its columns, for life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// The table.
    pub table: TableId,
    /// The columns; empty for its primary key.
    pub columns: Vec<ColumnId>,
}

impl Referenced {
    /// What is referenced by these names of columns.
    ///
    /// # Errors
    /// If one is not there.
    pub fn find(entry: &TableEntry, names: &[String]) -> Result<Self> {
        let id = |name: &String| entry.position(name).map(|position| entry.columns[position].id);
        let columns = names.iter().map(id).collect::<Result<_>>()?;
        Ok(Self { table: entry.id, columns })
    }

    /// The names that its columns have by now, if they all are there.
    pub fn names<'a>(&self, entry: &'a TableEntry) -> Option<Vec<&'a str>> {
        let name = |id: &ColumnId| {
            let column = entry.columns.iter().find(|column| column.id == *id);
            column.map(|column| column.name.as_str())
        };
        self.columns.iter().map(name).collect()
    }
}

impl ConstraintEntry {
    /// The constraint as CREATE TABLE writes it, with the names that things have in a snapshot.
    pub fn definition(&self, table: &TableEntry, snapshot: &Snapshot) -> String {
        let columns: Vec<&str> =
            self.columns.iter().map(|at| table.columns[*at].name.as_str()).collect();
        let columns = columns.join(", ");
        match &self.kind {
            ConstraintKind::PrimaryKey => format!("PRIMARY KEY ({columns})"),
            ConstraintKind::Unique => format!("UNIQUE ({columns})"),
            ConstraintKind::ForeignKey { schema, table, referenced, found } => {
                let known = found.as_ref().and_then(|found| {
                    let entry = snapshot.table_by_id(found.table)?;
                    Some((entry, found.names(entry)?))
                });
                // What is gone keeps its name.
                let (now, table, referenced) = match &known {
                    Some((entry, names)) => (&entry.schema, &entry.name, names.join(", ")),
                    None => (schema.as_ref().unwrap_or(table), table, referenced.join(", ")),
                };
                let schema = schema.as_ref().map(|_| format!("{now}."));
                let mut text = format!(
                    "FOREIGN KEY ({columns}) REFERENCES {}{table}",
                    schema.unwrap_or_default()
                );
                if !referenced.is_empty() {
                    text.push_str(&format!("({referenced})"));
                }
                text
            }
        }
    }
}

/// A constraint as the catalog file holds it.
#[derive(Serialize, Deserialize)]
struct Stored {
    oid: u32,
    name: String,
    /// p, u or f.
    kind: char,
    columns: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    table: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    referenced: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table_id: Option<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    column_ids: Vec<u32>,
}

/// Constraints as text for the catalog file.
pub(super) fn to_json(constraints: &[ConstraintEntry]) -> Result<String> {
    let stored = |constraint: &ConstraintEntry| {
        let mut stored = Stored {
            oid: constraint.oid,
            name: constraint.name.clone(),
            kind: 'p',
            columns: constraint.columns.clone(),
            schema: None,
            table: String::new(),
            referenced: Vec::new(),
            table_id: None,
            column_ids: Vec::new(),
        };
        match &constraint.kind {
            ConstraintKind::PrimaryKey => {}
            ConstraintKind::Unique => stored.kind = 'u',
            ConstraintKind::ForeignKey { schema, table, referenced, found } => {
                stored.kind = 'f';
                stored.schema.clone_from(schema);
                stored.table.clone_from(table);
                stored.referenced.clone_from(referenced);
                stored.table_id = found.as_ref().map(|found| found.table.0);
                let ids = found.iter().flat_map(|found| &found.columns);
                stored.column_ids = ids.map(|id| id.0).collect();
            }
        }
        stored
    };
    let stored: Vec<Stored> = constraints.iter().map(stored).collect();
    serde_json::to_string(&stored).map_err(|e| Error::Internal(format!("constraints: {e}")))
}

/// Reads what [`to_json`] wrote, for a table of so many columns.
pub(super) fn from_json(text: &str, column_count: usize) -> Result<Vec<ConstraintEntry>> {
    let damaged = || Error::CatalogDamaged(format!("constraints \"{text}\""));
    let stored: Vec<Stored> = serde_json::from_str(text).map_err(|_| damaged())?;
    let entry = |stored: Stored| {
        if stored.columns.iter().any(|at| *at >= column_count) {
            return Err(damaged());
        }
        let kind = match stored.kind {
            'p' => ConstraintKind::PrimaryKey,
            'u' => ConstraintKind::Unique,
            'f' => ConstraintKind::ForeignKey {
                schema: stored.schema,
                table: stored.table,
                referenced: stored.referenced,
                found: stored.table_id.map(|id| Referenced {
                    table: TableId(id),
                    columns: stored.column_ids.into_iter().map(ColumnId).collect(),
                }),
            },
            _ => return Err(damaged()),
        };
        Ok(ConstraintEntry { oid: stored.oid, name: stored.name, columns: stored.columns, kind })
    };
    stored.into_iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_read_back() {
        let key = |oid, columns: &[usize], kind| ConstraintEntry {
            oid,
            name: format!("c{oid}"),
            columns: columns.to_vec(),
            kind,
        };
        let foreign = ConstraintKind::ForeignKey {
            schema: Some("public".to_owned()),
            table: "a, b".to_owned(),
            referenced: vec!["x".to_owned()],
            found: Some(Referenced { table: TableId(100_000), columns: vec![ColumnId(4)] }),
        };
        let all = [
            key(100_001, &[1, 0], ConstraintKind::PrimaryKey),
            key(100_002, &[2], ConstraintKind::Unique),
            key(100_003, &[0], foreign),
        ];
        let text = to_json(&all).unwrap();
        assert_eq!(from_json(&text, 3).unwrap(), all);
        assert!(from_json(&text, 2).is_err(), "a column that the table does not have");
        assert!(from_json("[1]", 3).is_err());
        // As it was written before what the names stood for was kept.
        let old = r#"[{"oid":5,"name":"c","kind":"f","columns":[0],"table":"t"}]"#;
        let kind = &from_json(old, 1).unwrap()[0].kind;
        assert!(matches!(kind, ConstraintKind::ForeignKey { found: None, .. }));
    }
}
