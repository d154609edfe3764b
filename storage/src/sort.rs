//! Sorts whole rows by a table's compound sort key, on load and in VACUUM.
//!
//! The order is ascending, NULLs last, and stable: rows with equal keys keep their order. Keys of
//! fixed width are packed, together with the row number, into one integer per row; the integers are
//! sorted, and the row numbers read back from their low bits. Keys that do not fit (text, wide
//! decimals of wide range) go through Arrow's row format instead. Only the row numbers are sorted;
//! then each column is gathered once, in parallel.

mod key_converter;

pub(crate) use key_converter::KeyConverter;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow_schema::ArrowError;
use arrow_select::concat::concat;
use arrow_select::take::take;
use rayon::prelude::*;

use crate::ROW_GROUP_ROWS;
use crate::error::{Error, Result};
use crate::parallel::for_columns;
use crate::schema::{ColumnType, TableSchema};

/// Sorts the rows of `batches` by the sort key of `schema`; without one they come back as they are.
/// The result is cut into batches of at most a row group.
pub fn sort_rows(schema: &TableSchema, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
    let row_count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if schema.sort_key.is_empty() || row_count <= 1 {
        return Ok(batches);
    }
    if u32::try_from(row_count).is_err() {
        return Err(Error::SchemaMismatch(format!("{row_count} rows are too many for one sort")));
    }
    let keys = for_columns(row_count, schema.sort_key.len(), |position| {
        let column = schema.sort_key[position];
        Ok((schema.columns[column].column_type, whole_column(&batches, column)?))
    })?;
    let order = match pack_keys(&keys, row_count) {
        Some(packed) => packed.sorted_rows(),
        None => sorted_rows_by_format(&keys, row_count)?,
    };
    let Some(order) = order else { return Ok(batches) };
    drop(keys);
    gather(&batches, &order)
}

fn gather(batches: &[RecordBatch], order: &UInt32Array) -> Result<Vec<RecordBatch>> {
    let columns = for_columns(order.len(), batches[0].num_columns(), |column| {
        let whole = whole_column(batches, column)?;
        take(&whole, order, None).map_err(|error| unfit(&error))
    })?;
    let sorted =
        RecordBatch::try_new(batches[0].schema(), columns).map_err(|error| unfit(&error))?;
    let starts = (0..sorted.num_rows()).step_by(ROW_GROUP_ROWS);
    Ok(starts
        .map(|start| sorted.slice(start, ROW_GROUP_ROWS.min(sorted.num_rows() - start)))
        .collect())
}

fn whole_column(batches: &[RecordBatch], column: usize) -> Result<ArrayRef> {
    let parts: Vec<&dyn Array> =
        batches.iter().map(|batch| batch.column(column).as_ref()).collect();
    concat(&parts).map_err(|error| unfit(&error))
}

fn unfit(error: &ArrowError) -> Error {
    Error::SchemaMismatch(error.to_string())
}

/// One integer per row: the keys in its high bits, the row number in its low bits.
struct PackedKeys {
    rows: Vec<u128>,
    row_bits: u32,
    /// Bits that keys and row number take.
    bits: u32,
}

impl PackedKeys {
    /// The row numbers in order; `None` if the rows are in order already.
    fn sorted_rows(mut self) -> Option<UInt32Array> {
        if self.rows.is_sorted() {
            return None;
        }
        let mask = (1_u128 << self.row_bits) - 1;
        // The row number makes every integer different, so an unstable sort is stable.
        let rows: Vec<u32> = if self.bits <= 64 {
            let mut narrow: Vec<u64> = self.rows.iter().map(|row| *row as u64).collect();
            narrow.par_sort_unstable();
            narrow.iter().map(|row| (row & mask as u64) as u32).collect()
        } else {
            self.rows.par_sort_unstable();
            self.rows.iter().map(|row| (row & mask) as u32).collect()
        };
        Some(rows.into())
    }
}

/// `None` if the keys do not fit into 128 bits beside the row number.
fn pack_keys(keys: &[(ColumnType, ArrayRef)], row_count: usize) -> Option<PackedKeys> {
    let row_bits = usize::BITS - (row_count - 1).leading_zeros();
    let mut rows = vec![0_u128; row_count];
    let mut bits = row_bits;
    for (column_type, array) in keys {
        let key = rank_values(*column_type, array)?;
        bits += key.bits;
        if bits > u128::BITS {
            return None;
        }
        for (row, value) in rows.iter_mut().zip(&key.values) {
            *row = (*row << key.bits) | value;
        }
    }
    for (number, row) in rows.iter_mut().enumerate() {
        *row = (*row << row_bits) | number as u128;
    }
    Some(PackedKeys { rows, row_bits, bits })
}

/// A key column as unsigned integers of a fixed number of bits, in the same order.
struct RankedValues {
    values: Vec<u128>,
    bits: u32,
}

fn rank_values(column_type: ColumnType, array: &ArrayRef) -> Option<RankedValues> {
    match column_type {
        ColumnType::Boolean => {
            Some(rank(array.as_boolean().iter().map(|value| value.map(i128::from))))
        }
        ColumnType::SmallInt => Some(rank_whole::<Int16Type>(array)),
        ColumnType::Integer => Some(rank_whole::<Int32Type>(array)),
        ColumnType::BigInt => Some(rank_whole::<Int64Type>(array)),
        ColumnType::Date => Some(rank_whole::<Date32Type>(array)),
        ColumnType::Time => Some(rank_whole::<Time64MicrosecondType>(array)),
        ColumnType::TimeTz => Some(rank_whole::<Time64NanosecondType>(array)),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            Some(rank_whole::<TimestampMicrosecondType>(array))
        }
        ColumnType::Decimal { .. } => {
            let array = array.as_primitive::<Decimal128Type>();
            // 38 digits leave room for every difference in 128 bits; foreign values may not.
            let in_range = |value: i128| value.unsigned_abs() < 1 << 125;
            array.iter().flatten().all(in_range).then(|| rank(array.iter()))
        }
        ColumnType::Real => Some(rank_float::<Float32Type>(array)),
        ColumnType::Double => Some(rank_float::<Float64Type>(array)),
        ColumnType::Text => None,
    }
}

fn rank_whole<T>(array: &ArrayRef) -> RankedValues
where
    T: ArrowPrimitiveType,
    T::Native: Into<i64>,
{
    rank(array.as_primitive::<T>().iter().map(|value| value.map(|value| i128::from(value.into()))))
}

fn rank_float<T>(array: &ArrayRef) -> RankedValues
where
    T: ArrowPrimitiveType,
    T::Native: Into<f64>,
{
    let in_order = |value: f64| {
        // Both zeros, and all NaNs, are one value; NaN is the largest.
        let value = if value.is_nan() { f64::NAN } else { value + 0.0 };
        let bits = value.to_bits() as i64;
        i128::from(bits ^ (((bits >> 63) as u64) >> 1) as i64)
    };
    rank(array.as_primitive::<T>().iter().map(|value| value.map(|value| in_order(value.into()))))
}

/// Subtracts the smallest value; a NULL becomes one more than the largest.
fn rank(values: impl Iterator<Item = Option<i128>> + Clone) -> RankedValues {
    let bounds = values.clone().flatten().fold(None, |bounds: Option<(i128, i128)>, value| {
        Some(bounds.map_or((value, value), |(min, max)| (min.min(value), max.max(value))))
    });
    let (min, max) = bounds.unwrap_or((0, 0));
    let null = (max - min) as u128 + 1;
    let ranked = values.map(|value| value.map_or(null, |value| (value - min) as u128));
    RankedValues { values: ranked.collect(), bits: u128::BITS - null.leading_zeros() }
}

fn sorted_rows_by_format(
    keys: &[(ColumnType, ArrayRef)],
    row_count: usize,
) -> Result<Option<UInt32Array>> {
    let (types, arrays): (Vec<_>, Vec<_>) = keys.iter().cloned().unzip();
    let rows = KeyConverter::new(&types)?.convert(&arrays)?;
    if (1..row_count).all(|row| rows.row(row - 1) <= rows.row(row)) {
        return Ok(None);
    }
    let mut order: Vec<u32> = (0..row_count as u32).collect();
    // The row number settles ties, so that an unstable sort is stable.
    order.par_sort_unstable_by(|left, right| {
        rows.row(*left as usize).cmp(&rows.row(*right as usize)).then(left.cmp(right))
    });
    Ok(Some(order.into()))
}

#[cfg(test)]
mod tests;
