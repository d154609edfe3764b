//! Arrow batches to DataRow messages, text and binary.
//!
//! A [`RowEncoder`] knows the columns of a result. For each batch it makes a [`BatchEncoder`], whose
//! columns have their concrete arrays already; a value then costs one branch on the column's kind,
//! no dynamic dispatch and no allocation. Types that are rare on the wire are cast, once per batch,
//! to the few that are encoded.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array,
    Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, IntervalMonthDayNanoArray,
    ListArray, RecordBatch, StringViewArray, Time64MicrosecondArray, Time64NanosecondArray,
    TimestampMicrosecondArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, Float32Type, Float64Type, Int16Type, Int32Type,
    Int64Type, IntervalMonthDayNanoType, IntervalUnit, Schema, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
};
use bytes::{BufMut, BytesMut};
use chrono_tz::Tz;

use crate::pgwire::message::Format;
use crate::pgwire::report::{Report, sqlstate};
use crate::pgwire::types::{WireType, oid};
use crate::pgwire::{datetime, number};

/// Encodes the batches of one result.
pub(crate) struct RowEncoder {
    columns: Vec<ColumnPlan>,
}

#[derive(Clone)]
struct ColumnPlan {
    wire_type: WireType,
    format: Format,
    zone: Tz,
    interval_is_12_bytes: bool,
}

impl RowEncoder {
    /// An encoder of rows of a schema, with one format per column.
    ///
    /// # Errors
    /// 08P01 if there are not as many formats as columns.
    pub(crate) fn new(
        schema: &Schema,
        formats: Vec<Format>,
        zone: Tz,
        interval_is_12_bytes: bool,
    ) -> Result<Self, Report> {
        if formats.len() != schema.fields().len() {
            return Err(Report::error(
                sqlstate::PROTOCOL_VIOLATION,
                "the result has another number of columns than formats",
            ));
        }
        let columns = schema.fields().iter().zip(formats).map(|(field, format)| ColumnPlan {
            wire_type: WireType::of_field(field),
            format,
            zone,
            interval_is_12_bytes,
        });
        Ok(Self { columns: columns.collect() })
    }

    /// An encoder of the rows of a batch.
    ///
    /// # Errors
    /// If a column cannot be shown in its type, for example a moment beyond microseconds.
    pub(crate) fn batch(&self, batch: &RecordBatch) -> Result<BatchEncoder, Report> {
        if batch.num_columns() != self.columns.len() {
            return Err(Report::error(
                sqlstate::INTERNAL_ERROR,
                "a batch has another number of columns than its result",
            ));
        }
        let columns = self.columns.iter().zip(batch.columns());
        let columns = columns.map(|(plan, array)| ColumnEncoder::new(plan, array));
        Ok(BatchEncoder { columns: columns.collect::<Result<_, _>>()? })
    }
}

/// The columns of a batch, ready to be encoded.
pub(crate) struct BatchEncoder {
    columns: Vec<ColumnEncoder>,
}

impl BatchEncoder {
    /// Appends one row as a DataRow message. After an error nothing is appended.
    ///
    /// # Errors
    /// If a value has no form in its format, or the row is longer than a message can be.
    pub(crate) fn encode_row(&self, row: usize, out: &mut BytesMut) -> Result<(), Report> {
        let start = out.len();
        let encoded = self.encode(row, out);
        if encoded.is_err() {
            out.truncate(start);
        }
        encoded
    }

    fn encode(&self, row: usize, out: &mut BytesMut) -> Result<(), Report> {
        out.put_u8(b'D');
        let start = out.len();
        out.put_i32(0);
        // The row description has counted the columns in 15 bits.
        out.put_u16(self.columns.len() as u16);
        for column in &self.columns {
            column.encode(row, out)?;
        }
        let length = i32::try_from(out.len() - start).map_err(|_| too_long())?;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

struct ColumnEncoder {
    values: Values,
    format: Format,
}

/// The arrays that are encoded as they are.
enum Values {
    Null,
    Bool(BooleanArray),
    Int16(Int16Array),
    Int32(Int32Array),
    Int64(Int64Array),
    /// Kept as a 64-bit integer, sent as an unsigned one of 32 bits.
    Oid(Int64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Decimal(Decimal128Array, i8),
    Text(StringViewArray),
    /// CHAR(n), padded with blanks to n bytes.
    Padded(StringViewArray, usize),
    Date(Date32Array),
    Time(Time64MicrosecondArray),
    TimeTz(Time64NanosecondArray),
    Timestamp(TimestampMicrosecondArray),
    TimestampTz(TimestampMicrosecondArray, Tz),
    Interval(IntervalMonthDayNanoArray, IntervalLayout),
    Bytes(BinaryViewArray),
    List(ListArray, Box<ColumnEncoder>, u32),
}

/// How many bytes a binary interval has.
#[derive(Clone, Copy)]
enum IntervalLayout {
    Postgres16,
    Redshift12,
}

impl ColumnEncoder {
    fn new(plan: &ColumnPlan, array: &ArrayRef) -> Result<Self, Report> {
        let canonical = canonical_type(array.data_type(), plan.wire_type.oid);
        let array = if &canonical == array.data_type() {
            ArrayRef::clone(array)
        } else {
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(array, &canonical, &options).map_err(|error| unencodable(&error))?
        };
        Ok(Self { values: Values::new(plan, &array)?, format: plan.format })
    }

    #[inline]
    fn encode(&self, row: usize, out: &mut BytesMut) -> Result<(), Report> {
        if self.values.is_null(row) {
            out.put_i32(-1);
            return Ok(());
        }
        match (&self.values, self.format) {
            (Values::Text(array), _) => put_bytes(out, array.value(row).as_bytes()),
            (Values::Padded(array, width), _) => {
                let text = array.value(row);
                let length = text.len().max(*width);
                out.put_i32(i32::try_from(length).map_err(|_| too_long())?);
                out.put_slice(text.as_bytes());
                out.put_bytes(b' ', length - text.len());
                Ok(())
            }
            (values, Format::Text) => sized(out, |out| values.put_text(row, out)),
            (values, Format::Binary) => sized(out, |out| values.put_binary(row, out)),
        }
    }
}

/// The type an array is cast to before it is encoded.
fn canonical_type(data_type: &DataType, wire_oid: u32) -> DataType {
    match data_type {
        DataType::Int32 | DataType::UInt32 | DataType::UInt64 if wire_oid == oid::OID => {
            DataType::Int64
        }
        DataType::Null
        | DataType::Boolean
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal128(..)
        | DataType::Date32
        | DataType::Time64(_)
        | DataType::List(_) => data_type.clone(),
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Decimal256(_, scale) => DataType::Decimal128(38, *scale),
        DataType::Time32(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Date64 => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        DataType::Interval(_) | DataType::Duration(_) => {
            DataType::Interval(IntervalUnit::MonthDayNano)
        }
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => {
            DataType::BinaryView
        }
        DataType::BinaryView => DataType::BinaryView,
        DataType::LargeList(element) | DataType::FixedSizeList(element, _) => {
            DataType::List(std::sync::Arc::clone(element))
        }
        DataType::Dictionary(_, values) => canonical_type(values, wire_oid),
        DataType::RunEndEncoded(_, values) => canonical_type(values.data_type(), wire_oid),
        // Strings, and what has no counterpart and is shown as text.
        _ => DataType::Utf8View,
    }
}

impl Values {
    fn new(plan: &ColumnPlan, array: &ArrayRef) -> Result<Self, Report> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Int16 => Self::Int16(array.as_primitive::<Int16Type>().clone()),
            DataType::Int32 => Self::Int32(array.as_primitive::<Int32Type>().clone()),
            DataType::Int64 if plan.wire_type.oid == oid::OID => {
                Self::Oid(array.as_primitive::<Int64Type>().clone())
            }
            DataType::Int64 => Self::Int64(array.as_primitive::<Int64Type>().clone()),
            DataType::Float32 => Self::Float32(array.as_primitive::<Float32Type>().clone()),
            DataType::Float64 => Self::Float64(array.as_primitive::<Float64Type>().clone()),
            DataType::Decimal128(_, scale) => {
                Self::Decimal(array.as_primitive::<Decimal128Type>().clone(), *scale)
            }
            DataType::Utf8View => match plan.wire_type {
                WireType { oid: oid::BPCHAR, modifier: 5.. } => {
                    let width = usize::try_from(plan.wire_type.modifier - 4).unwrap_or(0);
                    Self::Padded(array.as_string_view().clone(), width)
                }
                _ => Self::Text(array.as_string_view().clone()),
            },
            DataType::Date32 => Self::Date(array.as_primitive::<Date32Type>().clone()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Self::Time(array.as_primitive::<Time64MicrosecondType>().clone())
            }
            DataType::Time64(_) => {
                Self::TimeTz(array.as_primitive::<Time64NanosecondType>().clone())
            }
            DataType::Timestamp(_, None) => {
                Self::Timestamp(array.as_primitive::<TimestampMicrosecondType>().clone())
            }
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz(
                array.as_primitive::<TimestampMicrosecondType>().clone(),
                plan.zone,
            ),
            DataType::Interval(_) => {
                let layout = match plan.interval_is_12_bytes {
                    true => IntervalLayout::Redshift12,
                    false => IntervalLayout::Postgres16,
                };
                Self::Interval(array.as_primitive::<IntervalMonthDayNanoType>().clone(), layout)
            }
            DataType::BinaryView => Self::Bytes(array.as_binary_view().clone()),
            DataType::List(element) => Self::list(plan, array.as_list(), element)?,
            other => {
                return Err(Report::error(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    format!("values of type {other} cannot be sent"),
                ));
            }
        })
    }

    fn list(plan: &ColumnPlan, array: &ListArray, element: &Field) -> Result<Self, Report> {
        let wire_type = WireType::of_field(element);
        let element_plan = ColumnPlan { wire_type, ..plan.clone() };
        let encoder = ColumnEncoder::new(&element_plan, array.values())?;
        Ok(Self::List(array.clone(), Box::new(encoder), wire_type.oid))
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Null => true,
            Self::Bool(array) => array.is_null(row),
            Self::Int16(array) => array.is_null(row),
            Self::Int32(array) => array.is_null(row),
            Self::Int64(array) | Self::Oid(array) => array.is_null(row),
            Self::Float32(array) => array.is_null(row),
            Self::Float64(array) => array.is_null(row),
            Self::Decimal(array, _) => array.is_null(row),
            Self::Text(array) | Self::Padded(array, _) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::TimeTz(array) => array.is_null(row),
            Self::Timestamp(array) | Self::TimestampTz(array, _) => array.is_null(row),
            Self::Interval(array, _) => array.is_null(row),
            Self::Bytes(array) => array.is_null(row),
            Self::List(array, ..) => array.is_null(row),
        }
    }

    fn put_text(&self, row: usize, out: &mut BytesMut) -> Result<(), Report> {
        match self {
            Self::Null => {}
            Self::Bool(array) => out.put_u8(if array.value(row) { b't' } else { b'f' }),
            Self::Int16(array) => datetime::put_integer(out, array.value(row).into()),
            Self::Int32(array) => datetime::put_integer(out, array.value(row).into()),
            Self::Int64(array) | Self::Oid(array) => datetime::put_integer(out, array.value(row)),
            Self::Float32(array) => number::put_float32(out, array.value(row)),
            Self::Float64(array) => number::put_float64(out, array.value(row)),
            Self::Decimal(array, scale) => number::put_decimal(out, array.value(row), *scale),
            Self::Text(array) | Self::Padded(array, _) => {
                out.put_slice(array.value(row).as_bytes());
            }
            Self::Date(array) => datetime::put_date(out, array.value(row)),
            Self::Time(array) => datetime::put_time(out, array.value(row)),
            Self::TimeTz(array) => datetime::put_time_utc(out, array.value(row) / 1000),
            Self::Timestamp(array) => datetime::put_timestamp(out, array.value(row)),
            Self::TimestampTz(array, zone) => {
                datetime::put_timestamp_in_zone(out, array.value(row), *zone);
            }
            Self::Interval(array, _) => {
                let value = array.value(row);
                let microseconds = value.nanoseconds / 1000;
                datetime::put_interval(out, value.months, value.days, microseconds);
            }
            Self::Bytes(array) => {
                out.put_slice(b"\\x");
                for byte in array.value(row) {
                    let digits = b"0123456789abcdef";
                    out.put_u8(digits[usize::from(byte >> 4)]);
                    out.put_u8(digits[usize::from(byte & 15)]);
                }
            }
            Self::List(array, element, _) => put_list_text(array, element, row, out)?,
        }
        Ok(())
    }

    fn put_binary(&self, row: usize, out: &mut BytesMut) -> Result<(), Report> {
        match self {
            Self::Null => {}
            Self::Bool(array) => out.put_u8(array.value(row).into()),
            Self::Int16(array) => out.put_i16(array.value(row)),
            Self::Int32(array) => out.put_i32(array.value(row)),
            Self::Int64(array) => out.put_i64(array.value(row)),
            Self::Oid(array) => {
                out.put_u32(u32::try_from(array.value(row)).map_err(|_| out_of_range("oid"))?);
            }
            Self::Float32(array) => out.put_f32(array.value(row)),
            Self::Float64(array) => out.put_f64(array.value(row)),
            Self::Decimal(array, scale) => {
                number::put_decimal_binary(out, array.value(row), *scale);
            }
            Self::Text(array) | Self::Padded(array, _) => {
                out.put_slice(array.value(row).as_bytes());
            }
            Self::Date(array) => out.put_i32(shifted_date(array.value(row))?),
            Self::Time(array) => out.put_i64(array.value(row)),
            Self::TimeTz(array) => {
                out.put_i64(array.value(row) / 1000);
                out.put_i32(0);
            }
            Self::Timestamp(array) | Self::TimestampTz(array, _) => {
                out.put_i64(shifted_timestamp(array.value(row))?);
            }
            Self::Interval(array, layout) => {
                let value = array.value(row);
                out.put_i64(value.nanoseconds / 1000);
                match layout {
                    IntervalLayout::Postgres16 => {
                        out.put_i32(value.days);
                        out.put_i32(value.months);
                    }
                    IntervalLayout::Redshift12 => {
                        let short =
                            |part| i16::try_from(part).map_err(|_| out_of_range("interval"));
                        out.put_i16(short(value.days)?);
                        out.put_i16(short(value.months)?);
                    }
                }
            }
            Self::Bytes(array) => out.put_slice(array.value(row)),
            Self::List(array, element, oid) => {
                put_list_binary(array, element, *oid, row, out)?;
            }
        }
        Ok(())
    }
}

/// The infinities are the same extreme values on both sides of the shift.
fn shifted_date(days: i32) -> Result<i32, Report> {
    match days {
        i32::MAX | i32::MIN => Ok(days),
        days => days.checked_sub(datetime::POSTGRES_EPOCH_DAYS).ok_or_else(|| out_of_range("date")),
    }
}

fn shifted_timestamp(microseconds: i64) -> Result<i64, Report> {
    match microseconds {
        i64::MAX | i64::MIN => Ok(microseconds),
        microseconds => microseconds
            .checked_sub(datetime::POSTGRES_EPOCH_MICROSECONDS)
            .ok_or_else(|| out_of_range("timestamp")),
    }
}

/// `{1,NULL,"a b"}`, quoted as Postgres does.
fn put_list_text(
    array: &ListArray,
    element: &ColumnEncoder,
    row: usize,
    out: &mut BytesMut,
) -> Result<(), Report> {
    let offsets = array.value_offsets();
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    let mut text = BytesMut::new();
    out.put_u8(b'{');
    for index in start..end {
        if index > start {
            out.put_u8(b',');
        }
        if element.values.is_null(index) {
            out.put_slice(b"NULL");
            continue;
        }
        text.clear();
        element.values.put_text(index, &mut text)?;
        let is_special = |byte: &u8| b"{},\"\\".contains(byte) || byte.is_ascii_whitespace();
        let is_array = matches!(element.values, Values::List(..));
        let quoted = !is_array
            && (text.is_empty()
                || text.eq_ignore_ascii_case(b"null")
                || text.iter().any(is_special));
        if !quoted {
            out.put_slice(&text);
            continue;
        }
        out.put_u8(b'"');
        for byte in &text {
            if matches!(byte, b'"' | b'\\') {
                out.put_u8(b'\\');
            }
            out.put_u8(*byte);
        }
        out.put_u8(b'"');
    }
    out.put_u8(b'}');
    Ok(())
}

fn put_list_binary(
    array: &ListArray,
    element: &ColumnEncoder,
    element_oid: u32,
    row: usize,
    out: &mut BytesMut,
) -> Result<(), Report> {
    if matches!(element.values, Values::List(..)) {
        return Err(Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            "arrays of arrays cannot be sent in binary format",
        ));
    }
    let offsets = array.value_offsets();
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    let has_nulls = (start..end).any(|index| element.values.is_null(index));
    out.put_i32(i32::from(start < end));
    out.put_i32(has_nulls.into());
    out.put_u32(element_oid);
    if start < end {
        out.put_i32(i32::try_from(end - start).map_err(|_| too_long())?);
        out.put_i32(1);
    }
    (start..end).try_for_each(|index| element.encode(index, out))
}

#[inline]
fn put_bytes(out: &mut BytesMut, bytes: &[u8]) -> Result<(), Report> {
    out.put_i32(i32::try_from(bytes.len()).map_err(|_| too_long())?);
    out.put_slice(bytes);
    Ok(())
}

/// Appends a value behind its length.
#[inline]
fn sized(
    out: &mut BytesMut,
    put: impl FnOnce(&mut BytesMut) -> Result<(), Report>,
) -> Result<(), Report> {
    let start = out.len();
    out.put_i32(0);
    put(out)?;
    let length = i32::try_from(out.len() - start - 4).map_err(|_| too_long())?;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

fn too_long() -> Report {
    Report::error(sqlstate::PROGRAM_LIMIT_EXCEEDED, "a row is too long to be sent")
}

fn out_of_range(what: &str) -> Report {
    Report::error(sqlstate::DATETIME_FIELD_OVERFLOW, format!("{what} out of range"))
}

fn unencodable(error: &arrow::error::ArrowError) -> Report {
    Report::error(sqlstate::NUMERIC_VALUE_OUT_OF_RANGE, "a value cannot be sent in its type")
        .with_detail(error.to_string())
}
