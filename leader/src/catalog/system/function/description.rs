//! Comments on objects.

use datafusion::error::Result;

use super::Argument::{Int, Text};
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::comment::{Class, Description};
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("obj_description", &[&[Int], &[Int, Text]], Kind::Text, of_object),
    strict("col_description", &[&[Int, Int]], Kind::Text, of_column),
    strict("shobj_description", &[&[Int, Text]], Kind::Text, of_object),
];

/// (number, name of the system table of such objects)
fn of_object(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(find(catalog, |known| {
        let is_class = match arguments.get(1) {
            Some(Value::Text(class)) => *class == known.class.name(),
            _ => true,
        };
        is_class && known.part == 0 && is(arguments.first(), known.oid)
    }))
}

/// (number of the table, position of the column)
fn of_column(catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(find(catalog, |known| {
        known.class == Class::Relation
            && known.part > 0
            && is(arguments.first(), known.oid)
            && is(arguments.get(1), known.part)
    }))
}

fn is(argument: Option<&Value>, number: u32) -> bool {
    argument.and_then(Value::as_int) == Some(number.into())
}

fn find(catalog: &SystemCatalog, is_wanted: impl Fn(&Description<'_>) -> bool) -> Value {
    let found = catalog.descriptions().find(|known| is_wanted(known));
    found.map_or(Value::Null, |known| known.text.to_owned().into())
}
