//! The system functions: those whose value depends on the catalog or on who asks. A file holds a
//! family; each function is a row of its list.
//!
//! They are evaluated a row at a time on the leader, over the snapshot that the query was bound to.

mod arrays;
mod definition;
mod description;
mod identity;
mod naming;
mod privilege;
mod quoting;
mod reference;
mod session;
mod size;
mod type_name;
mod visibility;

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result;
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use sql::error::ErrorKind;

use super::SystemCatalog;
use super::column::Kind;
use super::value::{Value, array_of, value_at};

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    Bool,
    /// Integers and oids.
    Int,
    Text,
    /// An object by name or by number.
    TextOrOid,
    /// A list of texts.
    TextList,
}

/// A system function.
#[derive(Debug)]
struct SystemFunction {
    name: &'static str,
    /// The lists of arguments that it takes.
    overloads: &'static [&'static [Argument]],
    returns: Kind,
    /// NULL in any argument gives NULL.
    is_strict: bool,
    /// It does something: it is evaluated once for each row, and never while planning.
    acts: bool,
    evaluate: fn(&SystemCatalog, &[Value]) -> Result<Value>,
}

const fn strict(
    name: &'static str,
    overloads: &'static [&'static [Argument]],
    returns: Kind,
    evaluate: fn(&SystemCatalog, &[Value]) -> Result<Value>,
) -> SystemFunction {
    SystemFunction { name, overloads, returns, is_strict: true, acts: false, evaluate }
}

const fn acting(
    name: &'static str,
    overloads: &'static [&'static [Argument]],
    returns: Kind,
    evaluate: fn(&SystemCatalog, &[Value]) -> Result<Value>,
) -> SystemFunction {
    SystemFunction { name, overloads, returns, is_strict: true, acts: true, evaluate }
}

static FAMILIES: [&[SystemFunction]; 12] = [
    arrays::FUNCTIONS,
    definition::FUNCTIONS,
    description::FUNCTIONS,
    identity::FUNCTIONS,
    naming::FUNCTIONS,
    privilege::FUNCTIONS,
    quoting::FUNCTIONS,
    reference::FUNCTIONS,
    session::FUNCTIONS,
    size::FUNCTIONS,
    type_name::FUNCTIONS,
    visibility::FUNCTIONS,
];

/// The function of that name over a snapshot.
pub(super) fn find(name: &str, catalog: &SystemCatalog) -> Option<Arc<ScalarUDF>> {
    let function = FAMILIES.iter().flat_map(|family| *family).find(|known| known.name == name)?;
    let volatility = if function.acts { Volatility::Volatile } else { Volatility::Stable };
    Some(Arc::new(ScalarUDF::from(Bound {
        function,
        catalog: catalog.clone(),
        signature: Signature::user_defined(volatility),
    })))
}

/// An error of a system function, in terms of the client.
fn error(kind: ErrorKind, message: String) -> datafusion::error::DataFusionError {
    sql::Error::new(kind, message).into()
}

/// A function over a snapshot.
#[derive(Debug)]
struct Bound {
    function: &'static SystemFunction,
    catalog: SystemCatalog,
    signature: Signature,
}

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
            && Arc::ptr_eq(&self.catalog.snapshot, &other.catalog.snapshot)
    }
}

impl Eq for Bound {}

impl Hash for Bound {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Bound {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let overload = self.function.overloads.iter().find(|known| known.len() == given.len());
        let Some(overload) = overload else {
            let name = self.function.name;
            let message = format!("function {name} does not exist with these arguments");
            let hint = "No function matches the given name and argument types.";
            return Err(sql::Error::new(ErrorKind::UndefinedFunction, message)
                .with_hint(hint)
                .into());
        };
        Ok(overload.iter().zip(given).map(|(known, given)| coerced(*known, given)).collect())
    }

    fn return_type(&self, _given: &[DataType]) -> Result<DataType> {
        Ok(self.function.returns.arrow_type())
    }

    fn return_field_from_args(&self, _args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(self.function.returns.field(self.function.name, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arrays =
            args.args.iter().map(|argument| argument.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut results = Vec::with_capacity(rows);
        for row in 0..rows {
            let values = arrays
                .iter()
                .map(|array| value_at(array.as_ref(), row))
                .collect::<Result<Vec<_>>>()?;
            results.push(if self.function.is_strict && values.contains(&Value::Null) {
                Value::Null
            } else {
                (self.function.evaluate)(&self.catalog, &values)?
            });
        }
        let array = array_of(self.function.returns, &results)?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

fn coerced(known: Argument, given: &DataType) -> DataType {
    let is_text =
        matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    match known {
        Argument::Bool => DataType::Boolean,
        Argument::Int => DataType::Int64,
        Argument::Text => DataType::Utf8View,
        Argument::TextOrOid if is_text => DataType::Utf8View,
        Argument::TextOrOid => DataType::Int64,
        Argument::TextList => {
            DataType::List(Arc::new(Field::new("item", DataType::Utf8View, true)))
        }
    }
}
