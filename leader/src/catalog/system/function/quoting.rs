//! Text as a part of SQL.

use datafusion::error::Result;

use super::Argument::Text;
use super::{SystemFunction, strict};
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    strict("quote_ident", &[&[Text]], Kind::Text, quote_ident),
    strict("quote_literal", &[&[Text]], Kind::Text, quote_literal),
    SystemFunction {
        name: "quote_nullable",
        overloads: &[&[Text]],
        returns: Kind::Text,
        is_strict: false,
        acts: false,
        evaluate: quote_nullable,
    },
];

fn quote_ident(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_text().map(identifier).into())
}

fn quote_literal(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_text().map(literal).into())
}

fn quote_nullable(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(arguments[0].as_text().map_or_else(|| "NULL".to_owned(), literal).into())
}

/// Words that are names only in quotes.
const RESERVED: [&str; 72] = [
    "all",
    "analyse",
    "analyze",
    "and",
    "any",
    "array",
    "as",
    "asc",
    "authorization",
    "between",
    "both",
    "case",
    "cast",
    "check",
    "collate",
    "column",
    "constraint",
    "create",
    "cross",
    "current_date",
    "current_time",
    "current_timestamp",
    "current_user",
    "default",
    "deferrable",
    "desc",
    "distinct",
    "do",
    "else",
    "end",
    "except",
    "false",
    "for",
    "foreign",
    "freeze",
    "from",
    "full",
    "grant",
    "group",
    "having",
    "ilike",
    "in",
    "inner",
    "intersect",
    "into",
    "is",
    "isnull",
    "join",
    "leading",
    "left",
    "like",
    "limit",
    "localtime",
    "minus",
    "natural",
    "not",
    "notnull",
    "null",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "primary",
    "references",
    "right",
    "select",
    "table",
    "then",
    "true",
    "union",
    "user",
];

/// A name as SQL can read it back.
pub(super) fn identifier(name: &str) -> String {
    let is_plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'_' | b'0'..=b'9');
    let starts_plain = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    if starts_plain && name.bytes().all(is_plain) && !RESERVED.contains(&name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL can read it back. A backslash means itself here only in a string that says so.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        return format!("E'{}'", quoted.replace('\\', "\\\\"));
    }
    format!("'{quoted}'")
}
