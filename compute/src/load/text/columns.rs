//! Fields of one column to an Arrow array, by the column's type and the statement's options.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BooleanBuilder, Decimal128Array, NullBufferBuilder,
    PrimitiveArray, StringViewBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{
    Date32Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    Time64NanosecondType,
};
use storage::schema::ColumnType;

use super::super::error::{ErrorCode, Fault};
use super::super::request::{Conversion, DateFormat, TargetColumn, TimeFormat};
use super::super::value::datetime::{self, Zone};
use super::super::value::{auto, number};
use super::records::Records;

/// A field that cannot be converted.
pub(super) struct ColumnFault {
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) fault: Fault,
}

/// Split rows and the bytes that they lie in.
pub(super) struct Rows<'a> {
    pub(super) records: &'a Records,
    pub(super) region: &'a [u8],
    /// The region as text, if all of it is UTF-8.
    pub(super) region_text: Option<&'a str>,
    /// Whether the region or the scratch buffer holds a NUL.
    pub(super) has_nul: bool,
    pub(super) conversion: &'a Conversion,
}

/// Converts all columns, or finds the first bad field of the first bad row.
pub(super) fn convert(
    rows: &Rows<'_>,
    columns: &[TargetColumn],
) -> Result<Vec<ArrayRef>, ColumnFault> {
    let mut row_count = rows.records.row_count();
    let mut first_fault = None;
    let mut arrays = Vec::with_capacity(columns.len());
    for (index, target) in columns.iter().enumerate() {
        let column = Column { rows, target, index, row_count };
        match column.convert() {
            Ok(array) => arrays.push(array),
            Err((row, fault)) => {
                row_count = row;
                first_fault = Some(ColumnFault { row, column: index, fault });
            }
        }
    }
    match first_fault {
        Some(fault) => Err(fault),
        None => Ok(arrays),
    }
}

struct Column<'a> {
    rows: &'a Rows<'a>,
    target: &'a TargetColumn,
    index: usize,
    row_count: usize,
}

type Converted = Result<ArrayRef, (usize, Fault)>;

impl Column<'_> {
    fn convert(&self) -> Converted {
        match self.target.column_type {
            ColumnType::Boolean => self.boolean(),
            ColumnType::SmallInt => self.primitive::<Int16Type>(|field| {
                let value = number::integer(field, i16::MIN.into(), i16::MAX.into(), "Short")?;
                Ok(value as i16)
            }),
            ColumnType::Integer => self.primitive::<Int32Type>(|field| {
                let value = number::integer(field, i32::MIN.into(), i32::MAX.into(), "Integer")?;
                Ok(value as i32)
            }),
            ColumnType::BigInt => self
                .primitive::<Int64Type>(|field| number::integer(field, i64::MIN, i64::MAX, "Long")),
            ColumnType::Decimal { precision, scale } => self.decimal(precision, scale),
            ColumnType::Real => self.primitive::<Float32Type>(number::real),
            ColumnType::Double => self.primitive::<Float64Type>(number::double),
            ColumnType::Text => self.text(),
            ColumnType::Date => self.date(),
            ColumnType::Time => self.primitive::<Time64MicrosecondType>(datetime::time),
            ColumnType::TimeTz => self.primitive::<Time64NanosecondType>(datetime::time_with_zone),
            ColumnType::Timestamp => Ok(Arc::new(self.timestamp(Zone::Without)?)),
            ColumnType::TimestampTz => {
                Ok(Arc::new(self.timestamp(Zone::With)?.with_timezone("UTC")))
            }
        }
    }

    fn field(&self, row: usize) -> &[u8] {
        self.rows.records.field(self.rows.region, row, self.index)
    }

    fn is_null_marker(&self, field: &[u8]) -> bool {
        field == self.rows.conversion.null_as.as_bytes()
    }

    /// A field of another type than text without its blanks; None if it is NULL.
    #[inline]
    fn value(&self, row: usize) -> Result<Option<&[u8]>, (usize, Fault)> {
        let field = self.field(row);
        let trimmed = field.trim_ascii();
        if trimmed.is_empty() || self.is_null_marker(field) {
            return self.null(row).map(|()| None);
        }
        Ok(Some(trimmed))
    }

    fn null(&self, row: usize) -> Result<(), (usize, Fault)> {
        if self.target.nullable { Ok(()) } else { Err((row, Fault::not_null())) }
    }

    fn values<T: ArrowPrimitiveType>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T::Native, Fault>,
    ) -> Result<PrimitiveArray<T>, (usize, Fault)> {
        let mut values = Vec::with_capacity(self.row_count);
        let mut nulls = NullBufferBuilder::new(self.row_count);
        for row in 0..self.row_count {
            match self.value(row)? {
                Some(field) => {
                    values.push(parse(field).map_err(|fault| (row, fault))?);
                    nulls.append_non_null();
                }
                None => {
                    values.push(T::Native::default());
                    nulls.append_null();
                }
            }
        }
        Ok(PrimitiveArray::new(values.into(), nulls.finish()))
    }

    fn primitive<T: ArrowPrimitiveType>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T::Native, Fault>,
    ) -> Converted {
        Ok(Arc::new(self.values::<T>(parse)?))
    }

    /// As `values`, but with ACCEPTANYDATE what cannot be parsed is NULL.
    fn dates<T: ArrowPrimitiveType>(
        &self,
        parse: impl Fn(&[u8]) -> Result<T::Native, Fault>,
    ) -> Result<PrimitiveArray<T>, (usize, Fault)> {
        if !self.rows.conversion.accept_any_date {
            return self.values::<T>(parse);
        }
        let mut values = Vec::with_capacity(self.row_count);
        for row in 0..self.row_count {
            let value = self.value(row)?.and_then(|field| parse(field).ok());
            if value.is_none() {
                self.null(row)?;
            }
            values.push(value);
        }
        Ok(PrimitiveArray::from_iter(values))
    }

    fn boolean(&self) -> Converted {
        let mut builder = BooleanBuilder::with_capacity(self.row_count);
        for row in 0..self.row_count {
            match self.value(row)? {
                Some(field) => {
                    builder.append_value(number::boolean(field).map_err(|fault| (row, fault))?);
                }
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    fn decimal(&self, precision: u8, scale: u8) -> Converted {
        let round = self.rows.conversion.round_decimals;
        let values: Decimal128Array =
            self.values(|field| number::decimal(field, precision, scale, round))?;
        // A table's precision and scale are valid for Arrow too.
        let typed = values.with_precision_and_scale(precision, scale as i8);
        Ok(Arc::new(typed.map_err(|error| (0, Fault::new(ErrorCode::Decimal, error.to_string())))?))
    }

    fn date(&self) -> Converted {
        let array = match &self.rows.conversion.date_format {
            DateFormat::Iso => self.dates::<Date32Type>(datetime::iso_date),
            DateFormat::Auto => self.dates::<Date32Type>(auto::date),
            DateFormat::Pattern(pattern) => self.dates::<Date32Type>(|field| pattern.days(field)),
        };
        Ok(Arc::new(array?))
    }

    fn timestamp(&self, zone: Zone) -> Result<TimestampMicrosecondArray, (usize, Fault)> {
        match &self.rows.conversion.time_format {
            TimeFormat::Iso => self.dates(|field| datetime::iso_timestamp(field, zone)),
            TimeFormat::Auto => self.dates(|field| auto::timestamp(field, zone)),
            TimeFormat::EpochSeconds => self.dates(|field| datetime::epoch(field, 1)),
            TimeFormat::EpochMillis => self.dates(|field| datetime::epoch(field, 1000)),
            TimeFormat::Pattern(pattern) => self.dates(|field| pattern.micros(field, zone)),
        }
    }

    fn text(&self) -> Converted {
        let conversion = self.rows.conversion;
        let mut builder = StringViewBuilder::with_capacity(self.row_count);
        let rules = TextRules::of(self.target, conversion.truncate_columns);
        for row in 0..self.row_count {
            let text = self.field_text(row).map_err(|fault| (row, fault))?;
            let is_null = self.is_null_marker(text.as_bytes())
                || (conversion.empty_as_null && text.is_empty())
                || (conversion.blanks_as_null && !text.is_empty() && is_blank(text));
            if is_null {
                self.null(row)?;
                builder.append_null();
                continue;
            }
            let kept = if conversion.trim_blanks && !self.target.is_char {
                text.trim_end_matches(|letter: char| letter.is_ascii_whitespace())
            } else {
                text
            };
            builder.append_value(rules.apply(kept).map_err(|fault| (row, fault))?);
        }
        Ok(Arc::new(builder.finish()))
    }

    fn field_text(&self, row: usize) -> Result<&str, Fault> {
        let records = self.rows.records;
        let text = match records.region_field(self.rows.region_text, row, self.index) {
            Some(text) => text,
            None => {
                let field = self.field(row);
                std::str::from_utf8(field).map_err(|error| invalid_utf8(field, error))?
            }
        };
        if self.rows.has_nul && text.as_bytes().contains(&0) {
            return Err(nul_byte());
        }
        Ok(text)
    }
}

/// What CHAR and VARCHAR demand of a string.
pub(in super::super) struct TextRules {
    bytes_max: usize,
    is_char: bool,
    truncate: bool,
}

impl TextRules {
    pub(in super::super) fn of(target: &TargetColumn, truncate: bool) -> Self {
        let bytes_max = target.bytes_max.map_or(usize::MAX, |bytes| bytes as usize);
        Self { bytes_max, is_char: target.is_char, truncate }
    }

    /// The string as it is stored.
    #[inline]
    pub(in super::super) fn apply<'a>(&self, text: &'a str) -> Result<&'a str, Fault> {
        let kept = if self.is_char {
            if !text.is_ascii() {
                return Err(multibyte(text));
            }
            text.trim_end_matches(' ')
        } else {
            text
        };
        if kept.len() <= self.bytes_max {
            return Ok(kept);
        }
        if self.truncate {
            let end = (0..=self.bytes_max).rev().find(|at| kept.is_char_boundary(*at));
            let cut = &kept[..end.unwrap_or(0)];
            return Ok(if self.is_char { cut.trim_end_matches(' ') } else { cut });
        }
        let what = if self.is_char { "Char" } else { "String" };
        Err(Fault::new(ErrorCode::OutOfRange, format!("{what} length exceeds DDL length")))
    }
}

/// Strings with NUL would be cut short by every client that speaks C.
pub(in super::super) fn nul_byte() -> Fault {
    Fault::new(
        ErrorCode::Utf8,
        "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: 00 (error 9)",
    )
}

fn is_blank(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_whitespace())
}

fn multibyte(text: &str) -> Fault {
    let letter = text.chars().find(|letter| !letter.is_ascii()).unwrap_or(' ');
    let bytes = hex(letter.to_string().as_bytes());
    Fault::new(
        ErrorCode::Char,
        format!(
            "Multibyte character not supported for CHAR (Hint: try using VARCHAR). Invalid char: \
             {bytes}"
        ),
    )
}

fn invalid_utf8(field: &[u8], error: std::str::Utf8Error) -> Fault {
    let bad = &field[error.valid_up_to()..];
    let number = match (bad, error.error_len()) {
        (_, None) => 2,
        ([0x80..=0xbf | 0xfe | 0xff, ..], _) => 3,
        ([0xf8..=0xfd, ..], _) => 1,
        ([0xed, 0xa0..=0xbf, ..], _) => 5,
        ([0xf5..=0xf7, ..] | [0xf4, 0x90..=0xbf, ..], _) => 8,
        ([0xc0 | 0xc1, ..], _) => 9,
        _ => 4,
    };
    let sequence = hex(&bad[..error.error_len().unwrap_or(bad.len()).clamp(1, 4).min(bad.len())]);
    Fault::new(
        ErrorCode::Utf8,
        format!(
            "String contains invalid or unsupported UTF8 codepoints. Bad UTF8 hex sequence: \
             {sequence} (error {number})"
        ),
    )
}

fn hex(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(" ")
}
