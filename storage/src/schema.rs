//! What a segment knows about its columns: type, nullability, asked encoding. No SQL here: the
//! leader converts its catalog's columns into these.

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

use crate::ids::ColumnId;

/// The stored type of a column. Each has exactly one Arrow type ([`ColumnType::arrow_type`]), which
/// scans, shuffles and hashes all use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// BOOLEAN
    Boolean,
    /// SMALLINT
    SmallInt,
    /// INTEGER
    Integer,
    /// BIGINT
    BigInt,
    /// DECIMAL(precision, scale): stored as 64-bit integers up to precision 18, else as 128-bit.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// REAL
    Real,
    /// DOUBLE PRECISION
    Double,
    /// CHAR(n) and VARCHAR(n): UTF-8. Trailing blanks of CHAR are not stored.
    Text,
    /// DATE: days since 1970-01-01.
    Date,
    /// TIME: microseconds since midnight.
    Time,
    /// TIMETZ: nanoseconds since midnight UTC (the unit tells it from TIME in Arrow).
    TimeTz,
    /// TIMESTAMP: microseconds since 1970-01-01.
    Timestamp,
    /// TIMESTAMPTZ: microseconds since 1970-01-01 UTC.
    TimestampTz,
}

impl ColumnType {
    /// The one Arrow type of this column type, in memory and at every hash site.
    pub fn arrow_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Decimal { precision, scale } => DataType::Decimal128(precision, scale as i8),
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Text => DataType::Utf8View,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::TimeTz => DataType::Time64(TimeUnit::Nanosecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }
}

/// What the user asked for with ENCODE; which of our encodings each name maps to is in
/// `docs/segment-format.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum EncodeName {
    /// ENCODE AUTO: chosen by size and decode cost for each segment.
    #[default]
    Auto,
    /// RAW
    Raw,
    /// AZ64
    Az64,
    /// BYTEDICT
    Bytedict,
    /// DELTA
    Delta,
    /// DELTA32K
    Delta32k,
    /// LZO
    Lzo,
    /// MOSTLY8
    Mostly8,
    /// MOSTLY16
    Mostly16,
    /// MOSTLY32
    Mostly32,
    /// RUNLENGTH
    Runlength,
    /// TEXT255
    Text255,
    /// TEXT32K
    Text32k,
    /// ZSTD
    Zstd,
}

impl EncodeName {
    const NAMES: [(&'static str, Self); 14] = [
        ("auto", Self::Auto),
        ("raw", Self::Raw),
        ("az64", Self::Az64),
        ("bytedict", Self::Bytedict),
        ("delta", Self::Delta),
        ("delta32k", Self::Delta32k),
        ("lzo", Self::Lzo),
        ("mostly8", Self::Mostly8),
        ("mostly16", Self::Mostly16),
        ("mostly32", Self::Mostly32),
        ("runlength", Self::Runlength),
        ("text255", Self::Text255),
        ("text32k", Self::Text32k),
        ("zstd", Self::Zstd),
    ];

    /// Its name after ENCODE, in lower case.
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, encode)| *encode == self);
        known.map(|(name, _)| *name).expect("every encoding has a name")
    }

    /// The encoding of that name, in lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, encode)| *encode)
    }
}

/// One column of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The id that finds the column again after others were dropped.
    pub id: ColumnId,
    /// The name, for messages.
    pub name: String,
    /// The stored type.
    pub column_type: ColumnType,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// The asked encoding.
    pub encode: EncodeName,
}

/// The columns of a table as its segments store them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// In the table's order.
    pub columns: Vec<Column>,
    /// Positions in `columns` of the compound sort key, most significant first; may be empty.
    pub sort_key: Vec<usize>,
}

impl TableSchema {
    /// The Arrow schema of a batch of whole rows.
    pub fn arrow_schema(&self) -> SchemaRef {
        let field = |column: &Column| {
            Field::new(&column.name, column.column_type.arrow_type(), column.nullable)
        };
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }
}
