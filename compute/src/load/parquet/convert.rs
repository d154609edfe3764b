//! From the types of a Parquet file to those of the table: integers widened or narrowed, decimals
//! rescaled, times brought to microseconds, strings held to their column. Every step is checked;
//! a value that does not fit is a fault of its row, never a changed value (but extra decimal
//! digits are cut, as in text).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray, StringViewArray, StringViewBuilder,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int64Type, Time64NanosecondType,
    TimeUnit, TimestampNanosecondType,
};
use storage::schema::ColumnType;

use super::super::error::{ErrorCode, Fault};
use super::super::request::{Conversion, TargetColumn};
use super::super::text::columns::{TextRules, nul_byte};
use super::reader::overflow;

/// How a column of a file becomes a column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// It already is.
    Keep,
    /// Arrow's cast, in which a value that does not fit becomes NULL and is found by that.
    Cast(DataType),
    /// Decimals to another scale or precision.
    Decimal { from_scale: i8, precision: u8, scale: u8 },
    /// Doubles to REAL.
    NarrowFloat,
    /// Nanoseconds to microseconds, rounded down.
    NanosToMicros(DataType),
    /// Strings to CHAR or VARCHAR.
    Text,
}

type Converted = Result<ArrayRef, (usize, Fault)>;

impl Step {
    /// None if values of the file's type do not go into the column.
    pub(in super::super) fn between(from: &DataType, to: ColumnType) -> Option<Self> {
        let target = to.arrow_type();
        Some(match (from, to) {
            (DataType::Utf8View, ColumnType::Text) => Self::Text,
            _ if *from == target => Self::Keep,
            (
                from,
                ColumnType::SmallInt
                | ColumnType::Integer
                | ColumnType::BigInt
                | ColumnType::Decimal { .. },
            ) if from.is_integer() => Self::Cast(target),
            (DataType::Decimal128(_, from_scale), ColumnType::Decimal { precision, scale })
            | (DataType::Decimal256(_, from_scale), ColumnType::Decimal { precision, scale })
                if *from_scale >= 0 =>
            {
                Self::Decimal { from_scale: *from_scale, precision, scale }
            }
            (
                DataType::Decimal128(_, 0),
                ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt,
            ) => Self::Cast(target),
            (DataType::Float32 | DataType::Float16, ColumnType::Double)
            | (DataType::Float16, ColumnType::Real) => Self::Cast(target),
            (DataType::Float64, ColumnType::Real) => Self::NarrowFloat,
            (
                DataType::Timestamp(TimeUnit::Nanosecond, _),
                ColumnType::Timestamp | ColumnType::TimestampTz,
            ) => Self::NanosToMicros(target),
            (DataType::Timestamp(..), ColumnType::Timestamp | ColumnType::TimestampTz) => {
                Self::Cast(target)
            }
            (DataType::Time64(TimeUnit::Nanosecond), ColumnType::Time) => {
                Self::NanosToMicros(target)
            }
            (DataType::Time32(_) | DataType::Time64(_), ColumnType::Time | ColumnType::TimeTz) => {
                Self::Cast(target)
            }
            _ => return None,
        })
    }

    /// Converts some rows, or finds the first value that does not fit.
    pub(in super::super) fn apply(
        &self,
        array: &ArrayRef,
        column: &TargetColumn,
        conversion: &Conversion,
    ) -> Converted {
        match self {
            Self::Keep => Ok(Arc::clone(array)),
            Self::Cast(to) => cast_checked(array, to, column),
            Self::Decimal { from_scale, precision, scale } => {
                let from = DataType::Decimal128(38, *from_scale);
                let narrow = match array.data_type() {
                    DataType::Decimal256(..) => cast_checked(array, &from, column)?,
                    _ => Arc::clone(array),
                };
                decimal(narrow.as_primitive(), *from_scale, *precision, *scale)
            }
            Self::NarrowFloat => narrow_float(array.as_primitive()),
            Self::NanosToMicros(to) => nanos_to_micros(array, to, column),
            Self::Text => text(array.as_string_view(), column, conversion),
        }
    }
}

fn cast_checked(array: &ArrayRef, to: &DataType, column: &TargetColumn) -> Converted {
    let options = CastOptions { safe: true, ..Default::default() };
    let cast = cast_with_options(array, to, &options)
        .map_err(|error| (0, Fault::new(ErrorCode::OutOfRange, error.to_string())))?;
    if cast.null_count() != array.null_count() {
        let row = (0..array.len()).find(|row| array.is_valid(*row) && cast.is_null(*row));
        let fault = match column.column_type {
            ColumnType::SmallInt | ColumnType::Integer | ColumnType::BigInt => Fault::new(
                ErrorCode::IntegerOverflow,
                format!("Overflow, Column type: {}", column.type_name),
            ),
            _ => overflow(),
        };
        return Err((row.unwrap_or(0), fault));
    }
    Ok(cast)
}

/// Applies a conversion to every value that is not NULL.
fn map<F: ArrowPrimitiveType, T: ArrowPrimitiveType>(
    array: &PrimitiveArray<F>,
    convert: impl Fn(F::Native) -> Option<T::Native>,
) -> Result<PrimitiveArray<T>, (usize, Fault)> {
    let mut values = Vec::with_capacity(array.len());
    let nulls = array.nulls();
    for (row, value) in array.values().iter().enumerate() {
        match convert(*value) {
            Some(value) => values.push(value),
            // What lies behind a NULL is of no matter.
            None if nulls.is_some_and(|nulls| nulls.is_null(row)) => {
                values.push(T::Native::default());
            }
            None => return Err((row, overflow())),
        }
    }
    Ok(PrimitiveArray::new(values.into(), nulls.cloned()))
}

fn decimal(array: &Decimal128Array, from_scale: i8, precision: u8, scale: u8) -> Converted {
    let limit = 10_i128.pow(u32::from(precision));
    let shift = i32::from(scale) - i32::from(from_scale);
    let factor = 10_i128.checked_pow(shift.unsigned_abs());
    let converted: Decimal128Array = map(array, |value| {
        let rescaled = match (factor, shift >= 0) {
            (Some(factor), true) => value.checked_mul(factor)?,
            (Some(factor), false) => value / factor,
            (None, true) => (value == 0).then_some(0)?,
            (None, false) => 0,
        };
        (rescaled < limit && rescaled > -limit).then_some(rescaled)
    })?;
    let typed = converted.with_precision_and_scale(precision, scale as i8);
    Ok(Arc::new(typed.map_err(|error| (0, Fault::new(ErrorCode::Decimal, error.to_string())))?))
}

fn narrow_float(array: &PrimitiveArray<Float64Type>) -> Converted {
    let narrow = map::<Float64Type, Float32Type>(array, |value| {
        let narrow = value as f32;
        (narrow.is_infinite() == value.is_infinite()).then_some(narrow)
    })?;
    Ok(Arc::new(narrow))
}

fn nanos_to_micros(array: &ArrayRef, to: &DataType, column: &TargetColumn) -> Converted {
    let floor = |nanos: i64| Some(nanos.div_euclid(1000));
    let micros: PrimitiveArray<Int64Type> = match array.data_type() {
        DataType::Time64(_) => map(array.as_primitive::<Time64NanosecondType>(), floor)?,
        _ => map(array.as_primitive::<TimestampNanosecondType>(), floor)?,
    };
    cast_checked(&(Arc::new(micros) as ArrayRef), to, column)
}

/// Strings that fit pass through without a copy.
fn text(array: &StringViewArray, column: &TargetColumn, conversion: &Conversion) -> Converted {
    let rules = TextRules::of(column, conversion.truncate_columns);
    let mut changed: Option<StringViewBuilder> = None;
    for (row, value) in array.iter().enumerate() {
        let Some(value) = value else {
            if let Some(builder) = &mut changed {
                builder.append_null();
            }
            continue;
        };
        if memchr::memchr(0, value.as_bytes()).is_some() {
            return Err((row, nul_byte()));
        }
        let kept = rules.apply(value).map_err(|fault| (row, fault))?;
        if kept.len() != value.len() && changed.is_none() {
            let mut builder = StringViewBuilder::with_capacity(array.len());
            array.iter().take(row).for_each(|value| builder.append_option(value));
            changed = Some(builder);
        }
        if let Some(builder) = &mut changed {
            builder.append_value(kept);
        }
    }
    Ok(match changed {
        Some(mut builder) => Arc::new(builder.finish()),
        None => Arc::new(array.clone()),
    })
}
