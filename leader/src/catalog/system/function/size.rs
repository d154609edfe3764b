//! How many bytes things take on disk.

use datafusion::error::Result;
use sql::error::raise;

use super::Argument::{Int, TextOrOid};
use super::{SystemFunction, strict};
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;
use crate::catalog::system::{DATABASE_OID, SystemCatalog};
use crate::engine::DATABASE;
use crate::error::code;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("pg_table_size", &[&[Int]], Kind::Int8, relation_size),
    strict("pg_relation_size", &[&[Int]], Kind::Int8, relation_size),
    strict("pg_total_relation_size", &[&[Int]], Kind::Int8, relation_size),
    strict("pg_database_size", &[&[TextOrOid]], Kind::Int8, pg_database_size),
    strict("pg_size_pretty", &[&[Int]], Kind::Text, pg_size_pretty),
];

fn relation_size(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let relation = arguments[0].as_int().and_then(|oid| catalog.relation(oid));
    Ok(relation.and_then(|relation| i64::try_from(relation.bytes()).ok()).into())
}

fn pg_database_size(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let is_ours = match &arguments[0] {
        Value::Int(oid) => *oid == i64::from(DATABASE_OID),
        other => other.as_text() == Some(DATABASE),
    };
    if !is_ours {
        return Err(raise(code::UNDEFINED_DATABASE, "database does not exist".to_owned()));
    }
    let bytes: u64 = catalog.relations().iter().map(|relation| relation.bytes()).sum();
    Ok(i64::try_from(bytes).ok().into())
}

/// As PostgreSQL prints sizes: in the largest unit that leaves two digits at least, rounded.
fn pg_size_pretty(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    const UNITS: [&str; 5] = ["bytes", "kB", "MB", "GB", "TB"];
    /// From here on the next unit is used.
    const LIMIT: i128 = 10 * 1024;
    let Some(bytes) = arguments[0].as_int() else { return Ok(Value::Null) };
    if i128::from(bytes).abs() < LIMIT {
        return Ok(format!("{bytes} {}", UNITS[0]).into());
    }
    // One more bit than the unit, for rounding at the end.
    let mut halves = i128::from(bytes) / 512;
    let mut unit = 1;
    while half_rounded(halves).abs() >= LIMIT && unit + 1 < UNITS.len() {
        halves /= 1024;
        unit += 1;
    }
    Ok(format!("{} {}", half_rounded(halves), UNITS[unit]).into())
}

fn half_rounded(halves: i128) -> i128 {
    (halves + halves.signum()) / 2
}
