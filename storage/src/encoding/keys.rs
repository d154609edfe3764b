//! Keys: the 64-bit whole numbers that stand for the values of every fixed-width column, in the
//! order of the values.
//!
//! Whole numbers, dates, times, booleans and decimals are their own keys. A REAL or DOUBLE PRECISION
//! becomes its bit pattern, rearranged so that the order of the keys is PostgreSQL's order of the
//! numbers: -infinity, negative numbers, -0 and 0 side by side, positive numbers, infinity, every
//! NaN. The map is one to one, so each bit pattern comes back exactly.
//!
//! Decimals of more than 18 digits have keys when the values of the chunk fit 64 bits.

use std::mem::MaybeUninit;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::NullBuffer;

use super::kernel::{self, WIDENED_AT_ONCE};
use crate::schema::ColumnType;

/// Negative NaN patterns of a double lie below -infinity; the keys of DOUBLE PRECISION are turned by
/// their number, so that they come after the positive NaNs instead.
const DOUBLE_TURN: i64 = 0x000F_FFFF_FFFF_FFFF;
/// The same for REAL.
const REAL_TURN: i32 = 0x007F_FFFF;

/// The key of a double.
pub(super) fn double_key(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    let ordered = if bits < 0 { bits ^ i64::MAX } else { bits };
    ordered.wrapping_sub(DOUBLE_TURN)
}

/// The double of a key.
#[inline(always)]
pub(super) fn key_double(key: i64) -> f64 {
    let ordered = key.wrapping_add(DOUBLE_TURN);
    f64::from_bits((ordered ^ ((ordered >> 63) & i64::MAX)) as u64)
}

/// The key of a float, within the range of `i32`.
pub(super) fn real_key(value: f32) -> i64 {
    let bits = value.to_bits() as i32;
    let ordered = if bits < 0 { bits ^ i32::MAX } else { bits };
    i64::from(ordered.wrapping_sub(REAL_TURN))
}

/// The float of a key.
#[inline(always)]
pub(super) fn key_real(key: i64) -> f32 {
    let ordered = (key as i32).wrapping_add(REAL_TURN);
    f32::from_bits((ordered ^ ((ordered >> 31) & i32::MAX)) as u32)
}

/// A value as it lies in memory, made from its key. Keys of damaged chunks may be out of the type's
/// range and are cut to it.
pub(super) trait FromKey: Copy + Default {
    /// The value of `key`.
    fn from_key(key: i64) -> Self;

    /// Writes the values of the keys of `codes` to `out`, which has as many slots.
    #[inline(always)]
    fn write_keys<C: Copy>(codes: &[C], key: impl Fn(C) -> i64, out: &mut [MaybeUninit<Self>]) {
        for (slot, code) in out.iter_mut().zip(codes) {
            slot.write(Self::from_key(key(*code)));
        }
    }
}

macro_rules! from_key_by_cast {
    ($($native:ty),*) => {$(
        impl FromKey for $native {
            #[inline(always)]
            fn from_key(key: i64) -> $native {
                key as $native
            }
        }
    )*};
}

from_key_by_cast!(i16, i32, i64, u16, u32);

impl FromKey for i128 {
    #[inline(always)]
    fn from_key(key: i64) -> i128 {
        i128::from(key)
    }

    #[inline(always)]
    fn write_keys<C: Copy>(codes: &[C], key: impl Fn(C) -> i64, out: &mut [MaybeUninit<i128>]) {
        let (blocks, rest) = codes.as_chunks::<WIDENED_AT_ONCE>();
        let (slots, last_slots) = out.as_chunks_mut::<WIDENED_AT_ONCE>();
        for (slots, codes) in slots.iter_mut().zip(blocks) {
            kernel::write_wide(codes.map(&key), slots);
        }
        for (slot, code) in last_slots.iter_mut().zip(rest) {
            slot.write(i128::from(key(*code)));
        }
    }
}

/// Booleans travel as bytes until they become bits.
impl FromKey for u8 {
    #[inline(always)]
    fn from_key(key: i64) -> u8 {
        key as u8
    }
}

impl FromKey for f32 {
    #[inline(always)]
    fn from_key(key: i64) -> f32 {
        key_real(key)
    }
}

impl FromKey for f64 {
    #[inline(always)]
    fn from_key(key: i64) -> f64 {
        key_double(key)
    }
}

/// The values of a fixed-width column of at most one row group.
#[derive(Debug)]
pub(super) enum FixedValues {
    /// Keys, one a row; the slots of NULLs hold the key of a neighbour.
    Keys(Vec<i64>),
    /// Decimals that do not all fit 64 bits.
    Wide(Vec<i128>),
}

/// Reads an array of the column's Arrow type. [`ColumnType::Text`] has no keys.
pub(super) fn fixed_values(column_type: ColumnType, array: &ArrayRef) -> FixedValues {
    let nulls = array.logical_nulls();
    let mut keys = match column_type {
        ColumnType::Boolean => array.as_boolean().values().iter().map(i64::from).collect(),
        ColumnType::SmallInt => widened(array.as_primitive::<Int16Type>().values()),
        ColumnType::Integer => widened(array.as_primitive::<Int32Type>().values()),
        ColumnType::BigInt => array.as_primitive::<Int64Type>().values().to_vec(),
        ColumnType::Decimal { .. } => {
            match narrow(array.as_primitive::<Decimal128Type>().values(), nulls.as_ref()) {
                Ok(keys) => keys,
                Err(wide) => return FixedValues::Wide(wide),
            }
        }
        ColumnType::Real => {
            array.as_primitive::<Float32Type>().values().iter().map(|v| real_key(*v)).collect()
        }
        ColumnType::Double => {
            array.as_primitive::<Float64Type>().values().iter().map(|v| double_key(*v)).collect()
        }
        ColumnType::Date => widened(array.as_primitive::<Date32Type>().values()),
        ColumnType::Time => array.as_primitive::<Time64MicrosecondType>().values().to_vec(),
        ColumnType::TimeTz => array.as_primitive::<Time64NanosecondType>().values().to_vec(),
        ColumnType::Timestamp | ColumnType::TimestampTz => {
            array.as_primitive::<TimestampMicrosecondType>().values().to_vec()
        }
        ColumnType::Text => unreachable!("text has no keys"),
    };
    fill_nulls(&mut keys, nulls.as_ref());
    FixedValues::Keys(keys)
}

fn widened<T: Copy + Into<i64>>(values: &[T]) -> Vec<i64> {
    values.iter().map(|value| (*value).into()).collect()
}

/// The decimals as 64-bit keys, or, if one that is not NULL does not fit, as they are.
fn narrow(values: &[i128], nulls: Option<&NullBuffer>) -> Result<Vec<i64>, Vec<i128>> {
    let is_valid = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    let fits = |value: i128| value as i64 as i128 == value;
    if values.iter().enumerate().all(|(row, value)| fits(*value) || !is_valid(row)) {
        return Ok(values.iter().map(|value| *value as i64).collect());
    }
    let mut wide = values.to_vec();
    fill_nulls(&mut wide, nulls);
    Err(wide)
}

/// Gives NULL slots the value before them (the first ones: the first value), so that they widen no
/// range and break no run.
fn fill_nulls<T: Copy + Default>(values: &mut [T], nulls: Option<&NullBuffer>) {
    let Some(nulls) = nulls else { return };
    let first = nulls.valid_indices().next().map(|row| values[row]);
    let mut last = first.unwrap_or_default();
    for (row, value) in values.iter_mut().enumerate() {
        if nulls.is_valid(row) {
            last = *value;
        } else {
            *value = last;
        }
    }
}

/// Bytes of one value of the type where values are stored as they are.
pub(super) fn stored_width(column_type: ColumnType) -> usize {
    match column_type {
        ColumnType::Boolean => 1,
        ColumnType::SmallInt => 2,
        ColumnType::Integer | ColumnType::Real | ColumnType::Date => 4,
        ColumnType::BigInt
        | ColumnType::Decimal { .. }
        | ColumnType::Double
        | ColumnType::Text
        | ColumnType::Time
        | ColumnType::TimeTz
        | ColumnType::Timestamp
        | ColumnType::TimestampTz => 8,
    }
}
