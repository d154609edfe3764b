//! Numbers of objects by their names, where a missing one is no error.

use datafusion::error::Result;

use super::Argument::Text;
use super::reference::{relation_of, type_of};
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("to_regclass", &[&[Text]], Kind::Oid, to_regclass),
    strict("to_regtype", &[&[Text]], Kind::Oid, to_regtype),
];

fn to_regclass(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let relation = arguments[0].as_text().and_then(|name| relation_of(catalog, name));
    Ok(relation.map(|relation| relation.oid()).into())
}

fn to_regtype(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_text().and_then(type_of).map(|known| known.oid).into())
}
