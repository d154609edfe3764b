//! The types regclass, regtype and regnamespace: numbers that are written as names. Casts from and
//! to them become calls of these functions.

use datafusion::error::Result;
use sql::error::ErrorKind;

use super::Argument::{Int, TextOrOid};
use super::quoting::identifier;
use super::{SystemFunction, error, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::relation::Relation;
use crate::catalog::system::types::{self, KnownType};
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("regclassin", &[&[TextOrOid]], Kind::Oid, regclassin),
    strict("regclassout", &[&[Int]], Kind::Text, regclassout),
    strict("regtypein", &[&[TextOrOid]], Kind::Oid, regtypein),
    strict("regtypeout", &[&[Int]], Kind::Text, regtypeout),
    strict("regnamespacein", &[&[TextOrOid]], Kind::Oid, regnamespacein),
    strict("regnamespaceout", &[&[Int]], Kind::Text, regnamespaceout),
];

/// A number, written as a number or as digits.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(oid) => Some(*oid),
        other => other.as_text()?.parse::<u32>().ok().map(i64::from),
    }
}

/// The parts of a possibly quoted and qualified name, folded as the parser folds names.
fn parts_of(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    for character in text.trim().chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            other => {
                if let Some(part) = parts.last_mut() {
                    part.extend(other.to_lowercase());
                }
            }
        }
    }
    parts
}

/// The relation that a text names.
pub(super) fn relation_of(catalog: &SystemCatalog, text: &str) -> Option<Relation> {
    match parts_of(text).as_slice() {
        [name] => catalog.relation_named(None, name),
        [schema, name] => catalog.relation_named(Some(schema), name),
        [database, schema, name] if *database == catalog.session.database => {
            catalog.relation_named(Some(schema), name)
        }
        _ => None,
    }
}

/// The type that a text names.
pub(super) fn type_of(text: &str) -> Option<&'static KnownType> {
    let lower = text.trim().to_lowercase();
    let bare = lower.strip_prefix("pg_catalog.").unwrap_or(&lower);
    let alias = match bare {
        "int" => "int4",
        "decimal" => "numeric",
        "char" => "bpchar",
        "double" => "float8",
        other => other,
    };
    types::named(alias)
}

fn regclassin(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    if let Some(oid) = number(&arguments[0]) {
        return Ok(Value::Int(oid));
    }
    let text = arguments[0].as_text().unwrap_or_default();
    match relation_of(catalog, text) {
        Some(relation) => Ok(relation.oid().into()),
        None => {
            Err(error(ErrorKind::UndefinedTable, format!("relation \"{text}\" does not exist")))
        }
    }
}

/// The name, with its schema where the bare name stands for something else.
fn regclassout(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let Some(oid) = arguments[0].as_int() else { return Ok(Value::Null) };
    Ok(match catalog.relation(oid) {
        Some(relation) if catalog.is_visible(&relation) => identifier(relation.name()).into(),
        Some(relation) => {
            format!("{}.{}", identifier(relation.schema()), identifier(relation.name())).into()
        }
        None => unknown(oid),
    })
}

fn regtypein(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    if let Some(oid) = number(&arguments[0]) {
        return Ok(Value::Int(oid));
    }
    let text = arguments[0].as_text().unwrap_or_default();
    match type_of(text) {
        Some(known) => Ok(known.oid.into()),
        None => Err(error(ErrorKind::UndefinedType, format!("type \"{text}\" does not exist"))),
    }
}

fn regtypeout(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let Some(oid) = arguments[0].as_int() else { return Ok(Value::Null) };
    Ok(match types::find(oid) {
        Some(_) => types::format_type(oid, None).into(),
        None => unknown(oid),
    })
}

fn regnamespacein(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    if let Some(oid) = number(&arguments[0]) {
        return Ok(Value::Int(oid));
    }
    let text = arguments[0].as_text().unwrap_or_default();
    let parts = parts_of(text);
    match parts.as_slice() {
        [name] if catalog.schema_oid(name) != 0 => Ok(catalog.schema_oid(name).into()),
        _ => Err(error(ErrorKind::UndefinedSchema, format!("schema \"{text}\" does not exist"))),
    }
}

fn regnamespaceout(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let Some(oid) = arguments[0].as_int() else { return Ok(Value::Null) };
    Ok(match catalog.schema_name(oid) {
        Some(name) => identifier(&name).into(),
        None => unknown(oid),
    })
}

/// A number that nothing has is shown as it is; 0 is nothing.
fn unknown(oid: i64) -> Value {
    if oid == 0 { "-".into() } else { oid.to_string().into() }
}
