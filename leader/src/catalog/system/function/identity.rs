//! Who is asking, and who is who.

use datafusion::error::Result;

use super::Argument::{Bool, Int};
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("pg_get_userbyid", &[&[Int]], Kind::Name, pg_get_userbyid),
    strict("current_schemas", &[&[Bool]], Kind::NameList, current_schemas),
    strict("pg_my_temp_schema", &[&[]], Kind::Oid, no_object),
    strict("pg_tablespace_location", &[&[Int]], Kind::Text, default_place),
    strict("pg_is_in_recovery", &[&[]], Kind::Bool, never),
    strict("pg_is_other_temp_schema", &[&[Int]], Kind::Bool, never),
];

fn pg_get_userbyid(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let Some(oid) = arguments[0].as_int() else { return Ok(Value::Null) };
    let user = catalog.snapshot.users().find(|user| i64::from(user.oid) == oid);
    Ok(match user {
        Some(user) => user.name.clone().into(),
        None => format!("unknown (OID={oid})").into(),
    })
}

/// The existing schemas of the search path; with true also the one that is always in it.
fn current_schemas(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let path = if arguments[0] == Value::Bool(true) {
        catalog.session.effective_search_path()
    } else {
        catalog.session.search_path.iter().map(String::as_str).collect()
    };
    Ok(Value::List(path.into_iter().map(|name| name.to_owned().into()).collect()))
}

/// There are no temporary tables, and so no schema for them.
fn no_object(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok(Value::Int(0))
}

/// The data directory, which is the operator's business.
fn default_place(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok("".into())
}

fn never(_catalog: &SystemCatalog, _arguments: &[Value]) -> Result<Value> {
    Ok(Value::Bool(false))
}
