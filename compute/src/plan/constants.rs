//! Values of plans and constants of storage, converted both ways.
//!
//! A conversion exists only where both sides mean exactly the same value of the column's own type;
//! everything else is `None`, and the scan evaluates the expression itself.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::common::ScalarValue;
use storage::predicate::Constant;
use storage::schema::ColumnType;

/// A plan's literal as a constant of a column.
pub(crate) fn to_constant(value: &ScalarValue, column_type: ColumnType) -> Option<Constant> {
    let constant = match (column_type, value) {
        (ColumnType::Boolean, ScalarValue::Boolean(Some(value))) => Constant::Int((*value).into()),
        (ColumnType::SmallInt, ScalarValue::Int16(Some(value))) => Constant::Int((*value).into()),
        (ColumnType::Integer, ScalarValue::Int32(Some(value)))
        | (ColumnType::Date, ScalarValue::Date32(Some(value))) => Constant::Int((*value).into()),
        (ColumnType::BigInt, ScalarValue::Int64(Some(value)))
        | (ColumnType::Time, ScalarValue::Time64Microsecond(Some(value)))
        | (ColumnType::TimeTz, ScalarValue::Time64Nanosecond(Some(value)))
        | (ColumnType::Timestamp, ScalarValue::TimestampMicrosecond(Some(value), None))
        | (ColumnType::TimestampTz, ScalarValue::TimestampMicrosecond(Some(value), Some(_))) => {
            Constant::Int(*value)
        }
        (
            ColumnType::Decimal { scale, .. },
            ScalarValue::Decimal128(Some(value), _, literal_scale),
        ) if i16::from(*literal_scale) == i16::from(scale) => Constant::Decimal(*value),
        (
            ColumnType::Text,
            ScalarValue::Utf8(Some(value))
            | ScalarValue::LargeUtf8(Some(value))
            | ScalarValue::Utf8View(Some(value)),
        ) => Constant::Text(value.clone()),
        // Floating point is compared by the plan's own rules (total order), never natively.
        _ => return None,
    };
    Some(constant)
}

/// A constant of a column as a plan's literal, of the column's Arrow type.
pub(crate) fn to_scalar(constant: &Constant, column_type: ColumnType) -> Option<ScalarValue> {
    let scalar = match (column_type, constant) {
        (ColumnType::Boolean, Constant::Int(value)) => ScalarValue::Boolean(Some(*value != 0)),
        (ColumnType::SmallInt, Constant::Int(value)) => {
            ScalarValue::Int16(Some(i16::try_from(*value).ok()?))
        }
        (ColumnType::Integer, Constant::Int(value)) => {
            ScalarValue::Int32(Some(i32::try_from(*value).ok()?))
        }
        (ColumnType::Date, Constant::Int(value)) => {
            ScalarValue::Date32(Some(i32::try_from(*value).ok()?))
        }
        (ColumnType::BigInt, Constant::Int(value)) => ScalarValue::Int64(Some(*value)),
        (ColumnType::Time, Constant::Int(value)) => ScalarValue::Time64Microsecond(Some(*value)),
        (ColumnType::TimeTz, Constant::Int(value)) => ScalarValue::Time64Nanosecond(Some(*value)),
        (ColumnType::Timestamp, Constant::Int(value)) => {
            ScalarValue::TimestampMicrosecond(Some(*value), None)
        }
        (ColumnType::TimestampTz, Constant::Int(value)) => {
            ScalarValue::TimestampMicrosecond(Some(*value), Some(Arc::from("UTC")))
        }
        (ColumnType::Decimal { precision, scale }, Constant::Decimal(value)) => {
            ScalarValue::Decimal128(Some(*value), precision, i8::try_from(scale).ok()?)
        }
        (ColumnType::Real, Constant::Float(value)) => {
            // Widened from f32 when it was stored, so that narrowing is exact.
            ScalarValue::Float32(Some(*value as f32))
        }
        (ColumnType::Double, Constant::Float(value)) => ScalarValue::Float64(Some(*value)),
        (ColumnType::Text, Constant::Text(value)) => ScalarValue::Utf8View(Some(value.clone())),
        _ => return None,
    };
    Some(scalar)
}

/// The order of two constants of one column, as its comparisons see it; none for floats.
pub(crate) fn compare(left: &Constant, right: &Constant) -> Option<Ordering> {
    match (left, right) {
        (Constant::Int(left), Constant::Int(right)) => Some(left.cmp(right)),
        (Constant::Decimal(left), Constant::Decimal(right)) => Some(left.cmp(right)),
        (Constant::Text(left), Constant::Text(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// A constant as a number, to estimate what part of a range it cuts off; none for text.
pub(crate) fn magnitude(constant: &Constant) -> Option<f64> {
    match constant {
        Constant::Int(value) => Some(*value as f64),
        Constant::Decimal(value) => Some(*value as f64),
        Constant::Float(value) => Some(*value),
        Constant::Text(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_of_another_type_or_scale_is_not_a_constant_of_the_column() {
        let decimal = ColumnType::Decimal { precision: 15, scale: 2 };
        let same = ScalarValue::Decimal128(Some(123), 20, 2);
        assert_eq!(to_constant(&same, decimal), Some(Constant::Decimal(123)));
        assert_eq!(to_constant(&ScalarValue::Decimal128(Some(123), 15, 3), decimal), None);
        assert_eq!(to_constant(&ScalarValue::Int64(Some(1)), ColumnType::Integer), None);
        assert_eq!(to_constant(&ScalarValue::Int32(None), ColumnType::Integer), None);
        assert_eq!(to_constant(&ScalarValue::Float64(Some(1.0)), ColumnType::Double), None);
    }

    #[test]
    fn constants_come_back_as_the_same_literals() {
        let pairs = [
            (ColumnType::Boolean, ScalarValue::Boolean(Some(true))),
            (ColumnType::SmallInt, ScalarValue::Int16(Some(-3))),
            (ColumnType::Date, ScalarValue::Date32(Some(9000))),
            (ColumnType::Decimal { precision: 38, scale: 4 }, {
                ScalarValue::Decimal128(Some(i128::MAX / 2), 38, 4)
            }),
            (ColumnType::Text, ScalarValue::Utf8View(Some("x".into()))),
            (ColumnType::TimestampTz, {
                ScalarValue::TimestampMicrosecond(Some(5), Some(Arc::from("UTC")))
            }),
        ];
        for (column_type, scalar) in pairs {
            let constant = to_constant(&scalar, column_type).unwrap();
            assert_eq!(to_scalar(&constant, column_type), Some(scalar));
        }
    }
}
