//! Casts to the types that only the system catalog has: numbers of objects that are written as
//! names (regclass and its like), `oid`, `name` and `"char"`; and type names that say their schema.
//!
//! A cast of a name to a number, and of a number to its name, becomes a call of a function that the
//! catalog brings ([`crate::Catalog::function`]), so that no value has such a type: `'t'::regclass`
//! is a number where it is compared, and a name where it is shown or made a text.

use datafusion::sql::sqlparser::ast::{self, DataType, Expr, SelectItem};

use super::prepare::{call, cast, null};

/// The types whose values are numbers written as names, with the functions that read and write
/// them.
const REFERENCES: [(&str, &str, &str); 3] = [
    ("regclass", "regclassin", "regclassout"),
    ("regtype", "regtypein", "regtypeout"),
    ("regnamespace", "regnamespacein", "regnamespaceout"),
];

/// Longest value of type name, in bytes.
const NAME_BYTES_MAX: u64 = 127;

/// The name of a type without the schema that all types are in.
fn bare_name(data_type: &DataType) -> Option<String> {
    match data_type {
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::Custom(name, modifiers) if modifiers.is_empty() => {
            let parts: Vec<&str> = name
                .0
                .iter()
                .filter_map(|part| part.as_ident().map(|ident| ident.value.as_str()))
                .collect();
            match parts.as_slice() {
                [bare] | ["pg_catalog", bare] => Some((*bare).to_owned()),
                _ => None,
            }
        }
        _ => None,
    }
}

fn has_schema(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Custom(name, _) if name.0.len() > 1)
}

fn reference(name: &str) -> Option<(&'static str, &'static str)> {
    REFERENCES.iter().find(|(known, ..)| *known == name).map(|(_, read, write)| (*read, *write))
}

/// A replacement for a cast, its operand done already, if it needs one.
pub(super) fn replacement(operand: &mut Expr, data_type: &DataType) -> Option<Expr> {
    if is_text(data_type) {
        return written(operand).map(|name| cast(name, data_type.clone()));
    }
    let name = bare_name(data_type)?;
    let mut take = || std::mem::replace(operand, null());
    if let Some((read, write)) = reference(&name) {
        let operand = take();
        return Some(if names_object(&operand) {
            call(read, vec![operand])
        } else {
            call(write, vec![operand])
        });
    }
    let target = match name.as_str() {
        "oid" | "xid" => DataType::BigInt(None),
        "name" | "regproc" | "regprocedure" | "regoper" => varchar(NAME_BYTES_MAX),
        "char" if has_schema(data_type) || is_quoted(data_type) => return Some(one_letter(take())),
        "text" if has_schema(data_type) => DataType::Text,
        "varchar" if has_schema(data_type) => DataType::Varchar(None),
        "int2" if has_schema(data_type) => DataType::SmallInt(None),
        "int4" if has_schema(data_type) => DataType::Integer(None),
        "int8" if has_schema(data_type) => DataType::BigInt(None),
        "bool" if has_schema(data_type) => DataType::Boolean,
        "float4" if has_schema(data_type) => DataType::Real,
        "float8" if has_schema(data_type) => DataType::DoublePrecision,
        "numeric" if has_schema(data_type) => DataType::Numeric(ast::ExactNumberInfo::None),
        "date" if has_schema(data_type) => DataType::Date,
        _ => return None,
    };
    let operand = take();
    match written_as_text(&target, operand) {
        Ok(text) => Some(text),
        Err(operand) => Some(cast(operand, target)),
    }
}

/// A cast of a number that is written as a name to a text: its name.
fn written_as_text(target: &DataType, mut operand: Expr) -> Result<Expr, Expr> {
    if is_text(target)
        && let Some(name) = written(&mut operand)
    {
        return Ok(cast(name, target.clone()));
    }
    Err(operand)
}

/// The name of what [`REFERENCES`]' reading functions gave.
fn written(operand: &mut Expr) -> Option<Expr> {
    let Expr::Function(function) = &*operand else { return None };
    let name = function.name.to_string();
    let (_, _, write) = REFERENCES.iter().find(|(_, read, _)| *read == name)?;
    Some(call(write, vec![std::mem::replace(operand, null())]))
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Text | DataType::Varchar(_) | DataType::CharacterVarying(_))
}

fn is_quoted(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Custom(name, _)
        if name.0.iter().any(|part| part.as_ident().is_some_and(|ident| ident.quote_style.is_some())))
}

fn varchar(length: u64) -> DataType {
    DataType::Varchar(Some(ast::CharacterLength::IntegerLength { length, unit: None }))
}

/// A text names an object; anything else is its number.
fn names_object(operand: &Expr) -> bool {
    matches!(operand, Expr::Value(value)
        if matches!(value.value, ast::Value::SingleQuotedString(_) | ast::Value::Placeholder(_)))
}

/// A value of the type that is written "char".
fn one_letter(operand: Expr) -> Expr {
    call("left", vec![cast(operand, DataType::Text), super::prepare::number("1")])
}

/// Makes the items of a SELECT list that are casts to such a type show the name and not the number.
pub(super) fn show_names(items: &mut [SelectItem]) {
    for item in items {
        let (SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) = item else {
            continue;
        };
        let Expr::Cast { data_type, .. } = expr else { continue };
        if bare_name(data_type).is_some_and(|name| reference(&name).is_some()) {
            *expr = cast(std::mem::replace(expr, null()), DataType::Text);
        }
    }
}
