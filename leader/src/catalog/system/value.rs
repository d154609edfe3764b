//! Single values of system tables and system functions, and their way from and to Arrow arrays.
//! Catalogs are small: a row at a time is fast enough here, and easy to read.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, ListArray, StringViewArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};
use datafusion::error::{DataFusionError, Result};

use super::column::Kind;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// Integers of every width, and oids.
    Int(i64),
    Float(f64),
    Text(Cow<'static, str>),
    List(Vec<Value>),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        // Counts and microseconds; none comes near 2^63.
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        // Counts of things in memory; none comes near 2^63.
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Cow::Owned(value))
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Self::Text(Cow::Borrowed(value))
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl Value {
    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, if it is one.
    pub(crate) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => None,
        }
    }

    fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }
}

/// The array of a column's values.
///
/// # Errors
/// If Arrow refuses the parts of a list, which would be a defect here.
pub(crate) fn array_of(kind: Kind, values: &[Value]) -> Result<ArrayRef> {
    let numbers = || values.iter().map(Value::as_int);
    // A number that does not fit its column is shown as absent, not as another number.
    Ok(match kind {
        Kind::Bool => Arc::new(values.iter().map(Value::as_bool).collect::<BooleanArray>()),
        Kind::Int2 => {
            Arc::new(numbers().map(|value| i16::try_from(value?).ok()).collect::<Int16Array>())
        }
        Kind::Int4 => {
            Arc::new(numbers().map(|value| i32::try_from(value?).ok()).collect::<Int32Array>())
        }
        Kind::Int8 | Kind::Oid => Arc::new(numbers().collect::<Int64Array>()),
        Kind::Real => Arc::new(
            numbers().map(|value| value.map(|value| value as f32)).collect::<Float32Array>(),
        ),
        Kind::Double => {
            let number = |value: &Value| match value {
                Value::Float(number) => Some(*number),
                _ => None,
            };
            Arc::new(values.iter().map(number).collect::<Float64Array>())
        }
        Kind::Hundredths => {
            let hundredths = numbers().map(|value| value.map(i128::from));
            let array = hundredths.collect::<Decimal128Array>();
            Arc::new(array.with_precision_and_scale(38, 2)?)
        }
        Kind::Timestamp => Arc::new(numbers().collect::<TimestampMicrosecondArray>()),
        Kind::Name | Kind::Char | Kind::Text => {
            Arc::new(values.iter().map(Value::as_text).collect::<StringViewArray>())
        }
        Kind::TimestampTz => {
            Arc::new(numbers().collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        Kind::Int2Vector
        | Kind::OidVector
        | Kind::Int2List
        | Kind::OidList
        | Kind::CharList
        | Kind::NameList
        | Kind::TextList
        | Kind::AclList => list_of(kind, values)?,
    })
}

fn list_of(kind: Kind, values: &[Value]) -> Result<ArrayRef> {
    let items = |value: &Value| match value {
        Value::List(items) => items.clone(),
        _ => Vec::new(),
    };
    let lists: Vec<Vec<Value>> = values.iter().map(items).collect();
    let offsets = OffsetBuffer::from_lengths(lists.iter().map(Vec::len));
    let elements = array_of(kind.element(), &lists.concat())?;
    let nulls: NullBuffer = values.iter().map(|value| matches!(value, Value::List(_))).collect();
    let list = ListArray::try_new(Arc::new(kind.element_field()), offsets, elements, Some(nulls));
    Ok(Arc::new(list.map_err(DataFusionError::from)?))
}

/// The value in a row of an array.
///
/// # Errors
/// For a type that no function here takes.
pub(crate) fn value_at(array: &dyn Array, row: usize) -> Result<Value> {
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match array.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(array.as_boolean().value(row)),
        DataType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        DataType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        DataType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        DataType::Utf8View => Value::from(array.as_string_view().value(row).to_owned()),
        DataType::Utf8 => Value::from(array.as_string::<i32>().value(row).to_owned()),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|index| value_at(items.as_ref(), index));
            Value::List(items.collect::<Result<_>>()?)
        }
        other => {
            let text = format!("a system function was given a value of type {other}");
            return Err(DataFusionError::Internal(text));
        }
    })
}
