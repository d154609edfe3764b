//! Looks once at the values of a column before they are encoded: bounds, NULLs and NaNs of one row
//! group, and the sketch of distinct values.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};

use crate::distinct_sketch::DistinctSketch;
use crate::predicate::Constant;
use crate::schema::ColumnType;
use crate::zone_map::{Zone, text_lower_bound, text_upper_bound};

/// What is known about the rows of one column of a row group.
pub(crate) struct Summary {
    /// Bounds and NULLs.
    pub(crate) zone: Zone,
    /// The values as a plain array.
    pub(crate) uncompressed_bytes: u64,
    /// Whether a text ends with a blank.
    pub(crate) has_trailing_blank: bool,
}

/// Summarizes `rows`, whose type is the Arrow type of `column_type`, and adds their values to
/// `distinct`.
pub(crate) fn summarize(
    column_type: ColumnType,
    rows: &ArrayRef,
    distinct: &mut DistinctSketch,
) -> Summary {
    let bounds = match column_type {
        ColumnType::Boolean => boolean_bounds(rows, distinct),
        ColumnType::SmallInt => whole_bounds::<Int16Type>(rows, distinct),
        ColumnType::Integer => whole_bounds::<Int32Type>(rows, distinct),
        ColumnType::BigInt => whole_bounds::<Int64Type>(rows, distinct),
        ColumnType::Date => whole_bounds::<Date32Type>(rows, distinct),
        ColumnType::Time => whole_bounds::<Time64MicrosecondType>(rows, distinct),
        ColumnType::TimeTz => whole_bounds::<Time64NanosecondType>(rows, distinct),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            whole_bounds::<TimestampMicrosecondType>(rows, distinct)
        }
        ColumnType::Decimal { .. } => decimal_bounds(rows, distinct),
        ColumnType::Real => float_bounds::<Float32Type>(rows, distinct),
        ColumnType::Double => float_bounds::<Float64Type>(rows, distinct),
        ColumnType::Text => text_bounds(rows, distinct),
    };
    let row_count = rows.len() as u64;
    let uncompressed_bytes = match column_type {
        ColumnType::Boolean => row_count,
        ColumnType::SmallInt => 2 * row_count,
        ColumnType::Integer | ColumnType::Real | ColumnType::Date => 4 * row_count,
        ColumnType::BigInt
        | ColumnType::Double
        | ColumnType::Time
        | ColumnType::TimeTz
        | ColumnType::Timestamp
        | ColumnType::TimestampTz => 8 * row_count,
        ColumnType::Decimal { precision, .. } => row_count * if precision > 18 { 16 } else { 8 },
        ColumnType::Text => {
            rows.as_string_view().iter().flatten().map(|text| text.len() as u64).sum()
        }
    };
    let zone = Zone {
        row_count,
        null_count: rows.null_count() as u64,
        min: bounds.min,
        max: bounds.max,
        has_nan: bounds.has_nan,
    };
    Summary { zone, uncompressed_bytes, has_trailing_blank: bounds.has_trailing_blank }
}

#[derive(Default)]
struct Bounds {
    min: Option<Constant>,
    max: Option<Constant>,
    has_nan: bool,
    has_trailing_blank: bool,
}

/// Smallest and largest of the values, and each value different from the one before to `insert`:
/// sorted columns are then hashed once per value.
fn fold<T: Copy + PartialOrd>(
    values: impl Iterator<Item = T>,
    mut insert: impl FnMut(T),
) -> Option<(T, T)> {
    let mut bounds: Option<(T, T)> = None;
    let mut last = None;
    for value in values {
        if last == Some(value) {
            continue;
        }
        last = Some(value);
        insert(value);
        bounds = Some(bounds.map_or((value, value), |(min, max)| {
            (if value < min { value } else { min }, if value > max { value } else { max })
        }));
    }
    bounds
}

fn boolean_bounds(rows: &ArrayRef, distinct: &mut DistinctSketch) -> Bounds {
    let values = rows.as_boolean().iter().flatten().map(i64::from);
    let bounds = fold(values, |value| distinct.insert(&value.to_le_bytes()));
    int_bounds(bounds)
}

fn int_bounds(bounds: Option<(i64, i64)>) -> Bounds {
    Bounds {
        min: bounds.map(|(min, _)| Constant::Int(min)),
        max: bounds.map(|(_, max)| Constant::Int(max)),
        ..Bounds::default()
    }
}

fn whole_bounds<T>(rows: &ArrayRef, distinct: &mut DistinctSketch) -> Bounds
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    let array = rows.as_primitive::<T>();
    let insert = |value: i64| distinct.insert(&value.to_le_bytes());
    int_bounds(if array.null_count() == 0 {
        fold(array.values().iter().map(|value| (*value).into()), insert)
    } else {
        fold(array.iter().flatten().map(Into::into), insert)
    })
}

fn decimal_bounds(rows: &ArrayRef, distinct: &mut DistinctSketch) -> Bounds {
    let array = rows.as_primitive::<Decimal128Type>();
    let bounds = fold(array.iter().flatten(), |value: i128| distinct.insert(&value.to_le_bytes()));
    Bounds {
        min: bounds.map(|(min, _)| Constant::Decimal(min)),
        max: bounds.map(|(_, max)| Constant::Decimal(max)),
        ..Bounds::default()
    }
}

fn float_bounds<T>(rows: &ArrayRef, distinct: &mut DistinctSketch) -> Bounds
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    let mut has_nan = false;
    let values = rows.as_primitive::<T>().iter().flatten().map(Into::into).filter(|value: &f64| {
        has_nan |= value.is_nan();
        !value.is_nan()
    });
    // Adding 0 makes both zeros the same: they are one value.
    let bounds = fold(values, |value| distinct.insert(&(value + 0.0).to_bits().to_le_bytes()));
    if has_nan {
        distinct.insert(&f64::NAN.to_bits().to_le_bytes());
    }
    Bounds {
        min: bounds.map(|(min, _)| Constant::Float(min)),
        max: bounds.map(|(_, max)| Constant::Float(max)),
        has_nan,
        ..Bounds::default()
    }
}

fn text_bounds(rows: &ArrayRef, distinct: &mut DistinctSketch) -> Bounds {
    let values = rows.as_string_view().iter().flatten();
    let mut has_trailing_blank = false;
    let bounds = fold(values, |value| {
        has_trailing_blank |= value.ends_with(' ');
        distinct.insert(value.as_bytes());
    });
    Bounds {
        min: bounds.map(|(min, _)| Constant::Text(text_lower_bound(min))),
        max: bounds.and_then(|(_, max)| text_upper_bound(max)).map(Constant::Text),
        has_nan: false,
        has_trailing_blank,
    }
}
