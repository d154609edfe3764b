//! Names of types, encodings and character sets.

use datafusion::error::Result;

use super::Argument::Int;
use super::{SystemFunction, strict};
use crate::catalog::system::column::Kind;
use crate::catalog::system::types;
use crate::catalog::system::value::Value;
use crate::catalog::system::{ENCODING_UTF8, SystemCatalog};

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    SystemFunction {
        name: "format_type",
        overloads: &[&[Int, Int]],
        returns: Kind::Text,
        is_strict: false,
        acts: false,
        evaluate: format_type,
    },
    strict("format_encoding", &[&[Int]], Kind::Text, format_encoding),
    strict("pg_encoding_to_char", &[&[Int]], Kind::Name, pg_encoding_to_char),
];

fn format_type(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let Some(oid) = arguments[0].as_int() else { return Ok(Value::Null) };
    Ok(types::format_type(oid, arguments[1].as_int()).into())
}

fn format_encoding(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_int().and_then(types::encoding_name).into())
}

fn pg_encoding_to_char(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let is_utf8 = arguments[0].as_int() == Some(ENCODING_UTF8.into());
    Ok(if is_utf8 { "UTF8" } else { "" }.into())
}
