//! Keys of tables: kept and shown, never enforced, as in Redshift.

use serde::{Deserialize, Serialize};

use super::TableEntry;
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
    },
}

impl ConstraintEntry {
    /// The constraint as CREATE TABLE writes it.
    pub fn definition(&self, table: &TableEntry) -> String {
        let columns: Vec<&str> =
            self.columns.iter().map(|at| table.columns[*at].name.as_str()).collect();
        let columns = columns.join(", ");
        match &self.kind {
            ConstraintKind::PrimaryKey => format!("PRIMARY KEY ({columns})"),
            ConstraintKind::Unique => format!("UNIQUE ({columns})"),
            ConstraintKind::ForeignKey { schema, table, referenced } => {
                let schema = schema.as_ref().map(|schema| format!("{schema}."));
                let mut text = format!(
                    "FOREIGN KEY ({columns}) REFERENCES {}{table}",
                    schema.unwrap_or_default()
                );
                if !referenced.is_empty() {
                    text.push_str(&format!("({})", referenced.join(", ")));
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
}

/// Constraints as text for the catalog file.
pub(super) fn to_json(constraints: &[ConstraintEntry]) -> Result<String> {
    let stored = |constraint: &ConstraintEntry| {
        let (kind, schema, table, referenced) = match &constraint.kind {
            ConstraintKind::PrimaryKey => ('p', None, String::new(), Vec::new()),
            ConstraintKind::Unique => ('u', None, String::new(), Vec::new()),
            ConstraintKind::ForeignKey { schema, table, referenced } => {
                ('f', schema.clone(), table.clone(), referenced.clone())
            }
        };
        let (name, columns) = (constraint.name.clone(), constraint.columns.clone());
        Stored { oid: constraint.oid, name, kind, columns, schema, table, referenced }
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
    }
}
