//! Whether an object is what its bare name stands for.

use datafusion::error::Result;

use super::Argument::Int;
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::types;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("pg_table_is_visible", &[&[Int]], Kind::Bool, pg_table_is_visible),
    strict("pg_type_is_visible", &[&[Int]], Kind::Bool, pg_type_is_visible),
    strict("pg_function_is_visible", &[&[Int]], Kind::Bool, no_such_object),
];

fn pg_table_is_visible(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let relation = arguments[0].as_int().and_then(|oid| catalog.relation(oid));
    Ok(relation.map(|relation| catalog.is_visible(&relation)).into())
}

/// All types are in pg_catalog, where every search path leads.
fn pg_type_is_visible(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_int().and_then(types::find).map(|_| true).into())
}

/// No number stands for a function.
fn no_such_object(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok(Value::Null)
}
