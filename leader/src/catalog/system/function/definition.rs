//! Definitions of objects as SQL.

use datafusion::error::Result;

use super::Argument::{Bool, Int, Text};
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("pg_get_expr", &[&[Text, Int], &[Text, Int, Bool]], Kind::Text, pg_get_expr),
    strict("pg_get_constraintdef", &[&[Int], &[Int, Bool]], Kind::Text, pg_get_constraintdef),
    strict("pg_get_indexdef", &[&[Int], &[Int, Int, Bool]], Kind::Text, no_such_object),
    strict("pg_get_viewdef", &[&[Int], &[Int, Bool]], Kind::Text, no_such_object),
    strict("pg_get_ruledef", &[&[Int], &[Int, Bool]], Kind::Text, no_such_object),
    strict("pg_get_triggerdef", &[&[Int], &[Int, Bool]], Kind::Text, no_such_object),
    strict("pg_get_functiondef", &[&[Int]], Kind::Text, no_such_object),
    strict("pg_get_function_result", &[&[Int]], Kind::Text, no_such_object),
    strict("pg_get_function_arguments", &[&[Int]], Kind::Text, no_such_object),
    strict("pg_get_function_identity_arguments", &[&[Int]], Kind::Text, no_such_object),
];

/// Expressions are kept as the text that they were written in.
fn pg_get_expr(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].clone())
}

fn pg_get_constraintdef(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let oid = arguments[0].as_int();
    let found = catalog.snapshot.tables().find_map(|entry| {
        let constraint =
            entry.constraints.iter().find(|known| Some(i64::from(known.oid)) == oid)?;
        Some(constraint.definition(entry, &catalog.snapshot))
    });
    Ok(found.into())
}

/// Objects of this kind do not exist, whatever the number.
fn no_such_object(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok(Value::Null)
}
