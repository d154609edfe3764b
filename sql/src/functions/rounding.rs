//! ROUND, TRUNC, CEIL and FLOOR: exact for decimals, whose scale becomes the number of digits that
//! are asked for. TRUNC of a moment is its date.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{
    DataType, Decimal128Type, Field, FieldRef, Float64Type, Int32Type, Int64Type, TimeUnit,
};
use datafusion::common::{Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

use super::decimal::{overflow, power_of_ten};
use super::integer::out_of_range;
use super::row_function::{invoke, rows};
use crate::types::DECIMAL_PRECISION_MAX;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Direction::Nearest, Direction::Zero, Direction::Up, Direction::Down]
        .map(|direction| {
            ScalarUDF::from(Rounding {
                direction,
                signature: Signature::user_defined(Volatility::Immutable),
            })
        })
        .into()
}

/// Where a number goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    /// ROUND: halves away from zero.
    Nearest,
    /// TRUNC
    Zero,
    /// CEIL
    Up,
    /// FLOOR
    Down,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Rounding {
    direction: Direction,
    signature: Signature,
}

impl ScalarUDFImpl for Rounding {
    fn name(&self) -> &str {
        match self.direction {
            Direction::Nearest => "round",
            Direction::Zero => "trunc",
            Direction::Up => "ceil",
            Direction::Down => "floor",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let takes_digits = matches!(self.direction, Direction::Nearest | Direction::Zero);
        let (value, digits) = match arg_types {
            [value] => (value, None),
            [value, DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Null]
                if takes_digits =>
            {
                (value, Some(DataType::Int32))
            }
            _ => return plan_err!("no such arguments"),
        };
        let value = match value {
            DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Decimal128(..) => {
                value.clone()
            }
            DataType::Float32
            | DataType::Float64
            | DataType::Null
            | DataType::Utf8
            | DataType::Utf8View => DataType::Float64,
            DataType::Timestamp(_, None) | DataType::Date32
                if self.direction == Direction::Zero && digits.is_none() =>
            {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            _ => return plan_err!("no such arguments"),
        };
        Ok(std::iter::once(value).chain(digits).collect())
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match &arg_types[0] {
            DataType::Timestamp(..) => DataType::Date32,
            other => other.clone(),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let mut data_type = self.return_type(&types)?;
        if let DataType::Decimal128(precision, scale) = data_type {
            let digits = match args.scalar_arguments.get(1).copied() {
                None => Some(0),
                Some(Some(constant)) => constant_digits(constant),
                Some(None) => None,
            };
            let kept = digits.unwrap_or_else(|| i32::from(scale)).clamp(0, i32::from(scale));
            let kept = i8::try_from(kept).unwrap_or(scale);
            // 9.9 becomes 10.
            let whole = precision.saturating_sub(scale.unsigned_abs()).saturating_add(1);
            let precision = whole.saturating_add(kept.unsigned_abs()).min(DECIMAL_PRECISION_MAX);
            data_type = DataType::Decimal128(precision, kept);
        }
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type().clone();
        invoke(&args.args, args.number_rows, |arrays| self.direction.compute(arrays, &result))
    }
}

fn constant_digits(constant: &ScalarValue) -> Option<i32> {
    match constant {
        ScalarValue::Int16(Some(digits)) => Some(i32::from(*digits)),
        ScalarValue::Int32(Some(digits)) => Some(*digits),
        ScalarValue::Int64(Some(digits)) => i32::try_from(*digits).ok(),
        _ => None,
    }
}

impl Direction {
    fn compute(self, arrays: &[ArrayRef], result: &DataType) -> Result<ArrayRef> {
        let digits = |row: usize| {
            arrays.get(1).map_or(0, |digits| digits.as_primitive::<Int32Type>().value(row))
        };
        match (arrays[0].data_type(), result) {
            (DataType::Timestamp(..), _) => {
                Ok(arrow::compute::cast(&arrays[0], &DataType::Date32)?)
            }
            (DataType::Decimal128(_, scale), DataType::Decimal128(precision, kept)) => {
                let values = arrays[0].as_primitive::<Decimal128Type>();
                let (scale, kept) = (i32::from(*scale), i32::from(*kept));
                let bound = power_of_ten(u32::from(*precision));
                let rounded = rows(arrays, |row| {
                    let value = self.decimal(values.value(row), scale, digits(row), kept)?;
                    if value.abs() < bound { Ok(value) } else { Err(overflow()) }
                })?;
                let rounded: PrimitiveArray<Decimal128Type> = rounded.into_iter().collect();
                Ok(Arc::new(rounded.with_data_type(result.clone())))
            }
            (DataType::Int16 | DataType::Int32 | DataType::Int64, _) => {
                let wide = arrow::compute::cast(&arrays[0], &DataType::Int64)?;
                let values = wide.as_primitive::<Int64Type>();
                let rounded = rows(arrays, |row| {
                    let value = self.decimal(values.value(row).into(), 0, digits(row), 0)?;
                    i64::try_from(value).map_err(|_| out_of_range("bigint"))
                })?;
                let rounded: ArrayRef = Arc::new(Int64Array::from(rounded));
                let options = CastOptions { safe: false, ..CastOptions::default() };
                arrow::compute::cast_with_options(&rounded, result, &options)
                    .map_err(|_| out_of_range("integer"))
            }
            (DataType::Float64, _) => {
                let values = arrays[0].as_primitive::<Float64Type>();
                let rounded = rows(arrays, |row| Ok(self.float(values.value(row), digits(row))))?;
                Ok(Arc::new(Float64Array::from(rounded)))
            }
            (other, _) => internal_err!("rounding of {other}"),
        }
    }

    /// A decimal of `scale` rounded to `digits` places and written with `kept`.
    fn decimal(self, value: i128, scale: i32, digits: i32, kept: i32) -> Result<i128> {
        let dropped = scale.saturating_sub(digits);
        let rounded = if dropped <= 0 {
            value
        } else if dropped > 38 {
            0
        } else {
            let unit = power_of_ten(dropped.unsigned_abs());
            let (quotient, rest) = (value.div_euclid(unit), value.rem_euclid(unit));
            let up = match self {
                Self::Down => false,
                Self::Up => rest > 0,
                Self::Zero => rest > 0 && value < 0,
                // Half away from zero: up for positive numbers, down for negative ones.
                Self::Nearest if value >= 0 => rest >= unit - rest,
                Self::Nearest => rest > unit - rest,
            };
            (quotient + i128::from(up)).checked_mul(unit).ok_or_else(overflow)?
        };
        Ok(rounded / power_of_ten(scale.saturating_sub(kept).unsigned_abs()))
    }

    fn float(self, value: f64, digits: i32) -> f64 {
        let round = |value: f64| match self {
            Self::Nearest => value.round(),
            Self::Zero => value.trunc(),
            Self::Up => value.ceil(),
            Self::Down => value.floor(),
        };
        if digits == 0 || !value.is_finite() {
            return round(value);
        }
        let factor = 10_f64.powi(digits);
        let rounded = round(value * factor) / factor;
        if rounded.is_finite() { rounded } else { value }
    }
}
