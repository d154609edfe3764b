//! Comments in the catalog file.

use rusqlite::{Connection, params};
use storage::ids::{ColumnId, TableId};

use super::{Writer, damaged};
use crate::catalog::{Change, Commented, Snapshot};
use crate::error::Result;

/// Kind, number of the object or of its table, number of the part, and the table.
fn key(object: Commented) -> (&'static str, u32, u32, Option<u32>) {
    match object {
        Commented::Database => ("database", 0, 0, None),
        Commented::Schema(oid) => ("schema", oid, 0, None),
        Commented::Table(table) => ("table", table.0, 0, Some(table.0)),
        Commented::Column(table, column) => ("column", table.0, column.0, Some(table.0)),
        Commented::Constraint(table, oid) => ("constraint", table.0, oid, Some(table.0)),
    }
}

pub(super) fn write(writer: &mut Writer<'_>, object: Commented, text: Option<&str>) -> Result<()> {
    let (kind, object, part, table) = key(object);
    match text {
        Some(text) => {
            let sql = "INSERT OR REPLACE INTO comments (kind, object, part, table_oid, text) \
                       VALUES (?1, ?2, ?3, ?4, ?5)";
            writer.run(sql, params![kind, object, part, table, text])
        }
        None => {
            let sql = "DELETE FROM comments WHERE kind = ?1 AND object = ?2 AND part = ?3";
            writer.run(sql, params![kind, object, part])
        }
    }
}

pub(super) fn delete_of_schema(writer: &mut Writer<'_>, name: &str) -> Result<()> {
    let sql = "DELETE FROM comments WHERE kind = 'schema' AND object IN \
               (SELECT oid FROM schemas WHERE name = ?1)";
    writer.run(sql, params![name])
}

/// Puts the comments into a snapshot that has the objects.
pub(super) fn read(connection: &Connection, snapshot: &mut Snapshot) -> Result<()> {
    let mut query = connection.prepare("SELECT kind, object, part, text FROM comments")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (kind, object, part): (String, u32, u32) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let object = match kind.as_str() {
            "database" => Commented::Database,
            "schema" => Commented::Schema(object),
            "table" => Commented::Table(TableId(object)),
            "column" => Commented::Column(TableId(object), ColumnId(part)),
            "constraint" => Commented::Constraint(TableId(object), part),
            other => return Err(damaged("kind of comment", other)),
        };
        snapshot.apply(&Change::PutComment(object, Some(row.get(3)?)))?;
    }
    Ok(())
}
