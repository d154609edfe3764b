//! What binding needs to know from outside: the tables of a snapshot and the values of a session.
//! Both are passed in, so that binding is a pure function.

use chrono::{DateTime, Utc};
use datafusion::logical_expr::{ScalarUDF, TableSource};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::identity::Identity;
use crate::types::SqlType;

/// The schema of the system catalog.
pub const SYSTEM_SCHEMA: &str = "pg_catalog";

/// The column of a target that tells its rows apart, a BIGINT. No identifier holds its first
/// character.
pub const ROW_ID_COLUMN: &str = "\u{1e}row_id";

/// A snapshot of the catalog. The search path is the implementor's: a name without schema is
/// looked up along it.
pub trait Catalog: Send + Sync {
    /// The table or view with this name, both in lower case.
    fn table(&self, schema: Option<&str>, name: &str) -> Option<ResolvedTable>;

    /// The table with this name as the target of a statement that changes its rows: with the column
    /// [`ROW_ID_COLUMN`] after its own.
    fn target(&self, schema: &str, name: &str) -> Option<ResolvedTable>;

    /// Whether the schema exists.
    fn has_schema(&self, schema: &str) -> bool;

    /// The function with this name, in lower case, if its values depend on the catalog.
    fn function(&self, _name: &str) -> Option<Arc<ScalarUDF>> {
        None
    }
}

/// A table that a name stands for.
pub struct ResolvedTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What a scan of it reads.
    pub source: Arc<dyn TableSource>,
}

/// The values of a session that functions such as CURRENT_DATE and CURRENT_USER stand for.
#[derive(Debug, Clone)]
pub struct SessionValues {
    /// Start of the transaction: CURRENT_DATE, SYSDATE, NOW().
    pub now: DateTime<Utc>,
    /// Start of the statement: GETDATE().
    pub statement_start: DateTime<Utc>,
    /// CURRENT_USER
    pub current_user: String,
    /// SESSION_USER
    pub session_user: String,
    /// CURRENT_DATABASE()
    pub database: String,
    /// The existing schemas of the search path, first first.
    pub search_path: Vec<String>,
    /// The schema of the session's temporary tables, if it has any.
    pub temporary_schema: Option<String>,
    /// PG_BACKEND_PID()
    pub backend_pid: i32,
    /// Session time zone, an IANA name.
    pub timezone: String,
    /// Values of CURRENT_SETTING(name).
    pub settings: BTreeMap<String, String>,
}

impl SessionValues {
    /// Where a name without a schema is looked up: temporary tables come first, then the system
    /// catalog unless the path names it elsewhere.
    pub fn effective_search_path(&self) -> Vec<&str> {
        let mut path: Vec<&str> = self.search_path.iter().map(String::as_str).collect();
        if !path.contains(&SYSTEM_SCHEMA) {
            path.insert(0, SYSTEM_SCHEMA);
        }
        if let Some(temporary) = &self.temporary_schema {
            path.insert(0, temporary);
        }
        path
    }
}

/// The table that an INSERT, UPDATE, DELETE or COPY writes.
#[derive(Debug, Clone)]
pub struct TargetTable {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// All its columns in order.
    pub columns: Vec<TargetColumn>,
    /// The number of the next row, for identity columns.
    pub next_number: u64,
}

/// A column of a [`TargetTable`].
#[derive(Debug, Clone)]
pub struct TargetColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// Whether NULL is refused (by the writer, not by the plan).
    pub not_null: bool,
    /// The text of its DEFAULT expression.
    pub default: Option<String>,
    /// How it counts, unless its values are those of statements only.
    pub identity: Option<Identity>,
}
