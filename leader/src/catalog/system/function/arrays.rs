//! Lists as text.

use datafusion::error::Result;

use super::Argument::{Text, TextList};
use super::SystemFunction;
use crate::catalog::system::SystemCatalog;
use crate::catalog::system::column::Kind;
use crate::catalog::system::value::Value;

pub(super) const FUNCTIONS: &[SystemFunction] = &[
    SystemFunction {
        name: "array_to_string",
        overloads: &[&[TextList, Text], &[TextList, Text, Text]],
        returns: Kind::Text,
        is_strict: false,
        acts: false,
        evaluate: array_to_string,
    },
    SystemFunction {
        name: "array_or_empty",
        overloads: &[&[TextList]],
        returns: Kind::TextList,
        is_strict: false,
        acts: false,
        evaluate: array_or_empty,
    },
];

/// ARRAY(SELECT ...): a query without rows gives a list without elements.
fn array_or_empty(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    Ok(match &arguments[0] {
        Value::Null => Value::List(Vec::new()),
        list => list.clone(),
    })
}

/// The elements with a text between them. NULL elements are left out, or shown as the third
/// argument.
fn array_to_string(_catalog: &SystemCatalog, arguments: &[Value]) -> Result<Value> {
    let (Value::List(items), Some(separator)) = (&arguments[0], arguments[1].as_text()) else {
        return Ok(Value::Null);
    };
    let absent = arguments.get(2).and_then(Value::as_text);
    let shown = items.iter().filter_map(|item| item.as_text().or(absent));
    Ok(shown.collect::<Vec<_>>().join(separator).into())
}
