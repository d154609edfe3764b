//! What a COPY asks for: the statement's options, checked and resolved by the leader against the
//! table, without any SQL in them.

use arrow::datatypes::SchemaRef;
use datafusion::scalar::ScalarValue;
use storage::schema::ColumnType;

use super::value::datetime::{DatePattern, TimestampPattern};
use crate::object_storage::Credentials;

/// One COPY.
#[derive(Clone)]
pub struct CopyRequest {
    /// `s3://bucket/prefix`: every object whose key starts with the prefix.
    pub url: String,
    /// With what to ask for the objects.
    pub credentials: Credentials,
    /// REGION.
    pub region: Option<String>,
    /// How the files are written.
    pub format: Format,
    /// GZIP, ZSTD. Parquet files compress their own pages.
    pub compression: Compression,
    /// How text becomes values.
    pub conversion: Conversion,
    /// The columns that the files hold, in the order of their fields: the column list, or all.
    pub columns: Vec<TargetColumn>,
    /// The table's other columns, each with the value that all its rows get.
    pub omitted: Vec<OmittedColumn>,
    /// The identity columns that count by themselves.
    pub counted: Vec<CountedColumn>,
    /// The table's columns in its order, of their own Arrow types: the schema of the batches.
    pub schema: SchemaRef,
}

/// How a file is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Fields between delimiters, one row a line, no quotes.
    Delimited {
        /// One ASCII byte.
        delimiter: u8,
    },
    /// Fields that may be quoted, and then may hold delimiters, line ends and doubled quotes.
    Csv {
        /// One ASCII byte.
        delimiter: u8,
        /// One ASCII byte.
        quote: u8,
    },
    /// Columns by position.
    Parquet,
}

/// How whole files are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// GZIP, of one or more members.
    Gzip,
    /// ZSTD, of one or more frames.
    Zstd,
}

/// How lines and fields of text become rows and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// IGNOREHEADER: lines to skip at the start of every file.
    pub ignore_header: usize,
    /// NULL AS: a field that equals it is NULL.
    pub null_as: String,
    /// DATEFORMAT.
    pub date_format: DateFormat,
    /// TIMEFORMAT.
    pub time_format: TimeFormat,
    /// EMPTYASNULL: empty CHAR and VARCHAR fields are NULL. (Those of other types always are.)
    pub empty_as_null: bool,
    /// BLANKSASNULL: CHAR and VARCHAR fields of white space only are NULL.
    pub blanks_as_null: bool,
    /// TRUNCATECOLUMNS: strings are cut to their column.
    pub truncate_columns: bool,
    /// TRIMBLANKS: trailing white space of VARCHAR is dropped.
    pub trim_blanks: bool,
    /// IGNOREBLANKLINES.
    pub ignore_blank_lines: bool,
    /// FILLRECORD: missing fields at the end of a line are empty fields.
    pub fill_record: bool,
    /// ACCEPTANYDATE: what is not a date or a timestamp is NULL.
    pub accept_any_date: bool,
    /// ROUNDEC: extra digits of decimals are rounded, half away from zero, and not cut.
    pub round_decimals: bool,
}

impl Default for Conversion {
    fn default() -> Self {
        Self {
            ignore_header: 0,
            null_as: "\\N".to_owned(),
            date_format: DateFormat::Iso,
            time_format: TimeFormat::Iso,
            empty_as_null: false,
            blanks_as_null: false,
            truncate_columns: false,
            trim_blanks: false,
            ignore_blank_lines: false,
            fill_record: false,
            accept_any_date: false,
            round_decimals: false,
        }
    }
}

/// DATEFORMAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DateFormat {
    /// `YYYY-MM-DD`, the default.
    Iso,
    /// `'auto'`
    Auto,
    /// Parts such as `MM/DD/YYYY`; see [`DatePattern::parse`].
    Pattern(DatePattern),
}

/// TIMEFORMAT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// `YYYY-MM-DD HH:MI:SS`, the default.
    Iso,
    /// `'auto'`
    Auto,
    /// `'epochsecs'`
    EpochSeconds,
    /// `'epochmillisecs'`
    EpochMillis,
    /// Parts such as `MM.DD.YYYY HH:MI:SS`; see [`TimestampPattern::parse`].
    Pattern(TimestampPattern),
}

/// A column of the table that the files hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetColumn {
    /// The name, for messages and the schema.
    pub name: String,
    /// The stored type.
    pub column_type: ColumnType,
    /// The type as users write it, for messages: `varchar(20)`.
    pub type_name: String,
    /// The length of CHAR and VARCHAR, in bytes.
    pub bytes_max: Option<u32>,
    /// Whether the text column is CHAR: single-byte characters, trailing blanks dropped.
    pub is_char: bool,
    /// Whether NULL is allowed.
    pub nullable: bool,
    /// Its place in the table's rows, counted from 0.
    pub position: usize,
}

/// A column of the table that the files do not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct OmittedColumn {
    /// Its place in the table's rows, counted from 0.
    pub position: usize,
    /// Its DEFAULT or a NULL, in the column's own Arrow type.
    pub value: ScalarValue,
}

/// A column of the table that the files do not hold and whose values are all different: row k of
/// stream p of P gets `first + step * (k * P + p)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedColumn {
    /// Its place in the table's rows, counted from 0.
    pub position: usize,
    /// The first value.
    pub first: i64,
    /// From one value to the next.
    pub step: i64,
}
