//! The types of Redshift with their modifiers, their Arrow form, and how they are written.
//!
//! One SQL type has exactly one Arrow type. What Arrow cannot say (the length of a string type)
//! travels as field metadata under [`TYPE_METADATA_KEY`].

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::sql::sqlparser::ast;
use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};

/// Key of the field metadata whose value is the SQL type as [`SqlType`] displays it.
pub const TYPE_METADATA_KEY: &str = "blueshift.type";

/// Key of the field metadata that says whether strings of the field may end with a blank.
pub const BLANKS_METADATA_KEY: &str = "blueshift.trailing_blanks";
/// Its value for a field of which none does.
pub const NO_BLANKS: &str = "none";

/// Longest VARCHAR, in bytes.
pub const VARCHAR_BYTES_MAX: u32 = 65_535;
/// Longest CHAR, in bytes.
pub const CHAR_BYTES_MAX: u32 = 4_096;
/// Length of VARCHAR, TEXT and BPCHAR without a modifier, in bytes.
const STRING_BYTES_DEFAULT: u32 = 256;
/// Most digits of a DECIMAL.
pub const DECIMAL_PRECISION_MAX: u8 = 38;
/// Most digits after the point of a declared DECIMAL.
pub const DECIMAL_SCALE_MAX: u8 = 37;
/// Precision of DECIMAL without a modifier.
const DECIMAL_PRECISION_DEFAULT: u8 = 18;

/// A column type or cast target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SqlType {
    /// BOOLEAN
    Boolean,
    /// SMALLINT
    SmallInt,
    /// INTEGER
    Integer,
    /// BIGINT
    BigInt,
    /// DECIMAL(precision, scale)
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
    /// REAL
    Real,
    /// DOUBLE PRECISION
    Double,
    /// CHAR(n), n in bytes
    Char(u32),
    /// VARCHAR(n), n in bytes
    VarChar(u32),
    /// DATE
    Date,
    /// TIME, microseconds
    Time,
    /// TIMETZ
    TimeTz,
    /// TIMESTAMP, microseconds
    Timestamp,
    /// TIMESTAMPTZ, microseconds in UTC
    TimestampTz,
}

impl SqlType {
    /// The one Arrow type of this SQL type.
    pub fn arrow_type(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Decimal { precision, scale } => {
                DataType::Decimal128(precision, scale.cast_signed())
            }
            Self::Real => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Char(_) | Self::VarChar(_) => DataType::Utf8View,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::TimeTz => DataType::Time64(TimeUnit::Nanosecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// The SQL type that a column of this Arrow type gets in CREATE TABLE AS; None if tables cannot
    /// hold it. Field metadata, where present, is more exact: see [`SqlType::of_field`].
    pub fn from_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => Self::Integer,
            DataType::Int64 | DataType::UInt32 => Self::BigInt,
            DataType::UInt64 => Self::Decimal { precision: 20, scale: 0 },
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Self::Decimal { precision: *precision, scale: scale.unsigned_abs() }
            }
            DataType::Float32 => Self::Real,
            DataType::Float64 => Self::Double,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => {
                Self::VarChar(STRING_BYTES_DEFAULT)
            }
            DataType::Date32 => Self::Date,
            DataType::Time64(TimeUnit::Microsecond) => Self::Time,
            DataType::Time64(TimeUnit::Nanosecond) => Self::TimeTz,
            DataType::Timestamp(_, None) => Self::Timestamp,
            DataType::Timestamp(_, Some(_)) => Self::TimestampTz,
            DataType::Dictionary(_, value) => return Self::from_arrow(value),
            _ => return None,
        })
    }

    /// The SQL type of an output field: its metadata if it has any, else by its Arrow type.
    pub fn of_field(field: &Field) -> Option<Self> {
        match field.metadata().get(TYPE_METADATA_KEY) {
            // Types of the system catalog are no types of tables: a name becomes a VARCHAR.
            Some(text) => Self::from_display(text).or_else(|| Self::from_arrow(field.data_type())),
            None => Self::from_arrow(field.data_type()),
        }
    }

    /// A field of this type that carries the type's name as metadata.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        let metadata = HashMap::from([(TYPE_METADATA_KEY.to_owned(), self.to_string())]);
        Field::new(name, self.arrow_type(), nullable).with_metadata(metadata)
    }

    /// Reads back what [`fmt::Display`] wrote.
    pub fn from_display(text: &str) -> Option<Self> {
        let (name, modifier) = match text.split_once('(') {
            Some((name, rest)) => (name, rest.strip_suffix(')')?),
            None => (text, ""),
        };
        Some(match (name, modifier) {
            ("boolean", "") => Self::Boolean,
            ("smallint", "") => Self::SmallInt,
            ("integer", "") => Self::Integer,
            ("bigint", "") => Self::BigInt,
            ("numeric", _) => {
                let (precision, scale) = modifier.split_once(',')?;
                Self::Decimal { precision: precision.parse().ok()?, scale: scale.parse().ok()? }
            }
            ("real", "") => Self::Real,
            ("double precision", "") => Self::Double,
            ("character", _) => Self::Char(modifier.parse().ok()?),
            ("character varying", _) => Self::VarChar(modifier.parse().ok()?),
            ("date", "") => Self::Date,
            ("time without time zone", "") => Self::Time,
            ("time with time zone", "") => Self::TimeTz,
            ("timestamp without time zone", "") => Self::Timestamp,
            ("timestamp with time zone", "") => Self::TimestampTz,
            _ => return None,
        })
    }

    /// The type a column declaration names.
    pub fn from_ast(data_type: &ast::DataType) -> Result<Self> {
        use ast::DataType as Ast;
        Ok(match data_type {
            Ast::Boolean | Ast::Bool => Self::Boolean,
            Ast::SmallInt(None) | Ast::Int2(None) => Self::SmallInt,
            Ast::Int(None) | Ast::Integer(None) | Ast::Int4(None) => Self::Integer,
            Ast::BigInt(None) | Ast::Int8(None) => Self::BigInt,
            Ast::Decimal(info) | Ast::Numeric(info) | Ast::Dec(info) => decimal(info)?,
            Ast::Real | Ast::Float4 => Self::Real,
            Ast::Float8 | Ast::DoublePrecision | Ast::Double(ast::ExactNumberInfo::None) => {
                Self::Double
            }
            Ast::Float(info) => float(info)?,
            Ast::Char(length) | Ast::Character(length) => Self::Char(char_length(length.as_ref())?),
            Ast::Varchar(length)
            | Ast::Nvarchar(length)
            | Ast::CharVarying(length)
            | Ast::CharacterVarying(length) => Self::VarChar(varchar_length(length.as_ref())?),
            Ast::Text => Self::VarChar(STRING_BYTES_DEFAULT),
            Ast::Date => Self::Date,
            Ast::Time(_, zone) if has_zone(zone) => Self::TimeTz,
            Ast::Time(..) => Self::Time,
            Ast::Timestamp(_, zone) if has_zone(zone) => Self::TimestampTz,
            Ast::Timestamp(..) => Self::Timestamp,
            Ast::Custom(name, modifiers) => custom(&name.to_string(), modifiers)?,
            other => return Err(unsupported_type(other)),
        })
    }

    /// The type a cast names: as a column declaration, but TEXT and VARCHAR without a length are
    /// the longest VARCHAR.
    pub fn from_cast_ast(data_type: &ast::DataType) -> Result<Self> {
        use ast::DataType as Ast;
        match data_type {
            Ast::Text
            | Ast::Varchar(None)
            | Ast::CharacterVarying(None)
            | Ast::CharVarying(None) => Ok(Self::VarChar(VARCHAR_BYTES_MAX)),
            other => Self::from_ast(other),
        }
    }
}

impl fmt::Display for SqlType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => formatter.write_str("boolean"),
            Self::SmallInt => formatter.write_str("smallint"),
            Self::Integer => formatter.write_str("integer"),
            Self::BigInt => formatter.write_str("bigint"),
            Self::Decimal { precision, scale } => write!(formatter, "numeric({precision},{scale})"),
            Self::Real => formatter.write_str("real"),
            Self::Double => formatter.write_str("double precision"),
            Self::Char(length) => write!(formatter, "character({length})"),
            Self::VarChar(length) => write!(formatter, "character varying({length})"),
            Self::Date => formatter.write_str("date"),
            Self::Time => formatter.write_str("time without time zone"),
            Self::TimeTz => formatter.write_str("time with time zone"),
            Self::Timestamp => formatter.write_str("timestamp without time zone"),
            Self::TimestampTz => formatter.write_str("timestamp with time zone"),
        }
    }
}

/// The field, marked as one of which no string ends with a blank.
pub fn without_blanks(field: Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.insert(BLANKS_METADATA_KEY.to_owned(), NO_BLANKS.to_owned());
    field.with_metadata(metadata)
}

/// The field, without the mark of [`without_blanks`].
pub(crate) fn with_blanks(field: Field) -> Field {
    let mut metadata = field.metadata().clone();
    metadata.remove(BLANKS_METADATA_KEY);
    field.with_metadata(metadata)
}

/// What messages call the type of an expression.
pub(crate) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Null => "unknown".to_owned(),
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "character varying".to_owned(),
        DataType::Interval(_) => "interval".to_owned(),
        DataType::Decimal128(..) => "numeric".to_owned(),
        other => SqlType::from_arrow(other)
            .map_or_else(|| other.to_string(), |sql_type| sql_type.to_string()),
    }
}

fn has_zone(zone: &ast::TimezoneInfo) -> bool {
    matches!(zone, ast::TimezoneInfo::Tz | ast::TimezoneInfo::WithTimeZone)
}

fn decimal(info: &ast::ExactNumberInfo) -> Result<SqlType> {
    let (precision, scale) = match info {
        ast::ExactNumberInfo::None => (u64::from(DECIMAL_PRECISION_DEFAULT), 0),
        ast::ExactNumberInfo::Precision(precision) => (*precision, 0),
        ast::ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let in_range = u8::try_from(precision)
        .ok()
        .filter(|precision| (1..=DECIMAL_PRECISION_MAX).contains(precision));
    let Some(precision) = in_range else {
        return Err(Error::new(
            ErrorKind::InvalidParameterValue,
            format!("NUMERIC precision {precision} must be between 1 and {DECIMAL_PRECISION_MAX}"),
        ));
    };
    let scale_max = precision.min(DECIMAL_SCALE_MAX);
    match u8::try_from(scale).ok().filter(|scale| *scale <= scale_max) {
        Some(scale) => Ok(SqlType::Decimal { precision, scale }),
        None => Err(Error::new(
            ErrorKind::InvalidParameterValue,
            format!("NUMERIC scale {scale} must be between 0 and {scale_max}"),
        )),
    }
}

fn float(info: &ast::ExactNumberInfo) -> Result<SqlType> {
    match info {
        ast::ExactNumberInfo::None => Ok(SqlType::Double),
        ast::ExactNumberInfo::Precision(1..=24) => Ok(SqlType::Real),
        ast::ExactNumberInfo::Precision(25..=53) => Ok(SqlType::Double),
        _ => Err(Error::new(
            ErrorKind::InvalidParameterValue,
            "precision for FLOAT must be between 1 and 53 bits",
        )),
    }
}

fn char_length(length: Option<&ast::CharacterLength>) -> Result<u32> {
    let length = match length {
        None => return Ok(1),
        Some(ast::CharacterLength::Max) => return Ok(CHAR_BYTES_MAX),
        Some(ast::CharacterLength::IntegerLength { length, .. }) => *length,
    };
    checked_length("char", length, CHAR_BYTES_MAX)
}

fn varchar_length(length: Option<&ast::CharacterLength>) -> Result<u32> {
    let length = match length {
        None => return Ok(STRING_BYTES_DEFAULT),
        Some(ast::CharacterLength::Max) => return Ok(VARCHAR_BYTES_MAX),
        Some(ast::CharacterLength::IntegerLength { length, .. }) => *length,
    };
    checked_length("varchar", length, VARCHAR_BYTES_MAX)
}

fn checked_length(name: &str, length: u64, max: u32) -> Result<u32> {
    match u32::try_from(length) {
        Ok(0) => Err(Error::new(
            ErrorKind::InvalidParameterValue,
            format!("length for type {name} must be at least 1"),
        )),
        Ok(length) if length <= max => Ok(length),
        _ => Err(Error::new(
            ErrorKind::InvalidParameterValue,
            format!("length for type {name} cannot exceed {max}"),
        )),
    }
}

fn custom(name: &str, modifiers: &[String]) -> Result<SqlType> {
    match (name.to_ascii_lowercase().as_str(), modifiers) {
        ("bpchar", []) => Ok(SqlType::Char(STRING_BYTES_DEFAULT)),
        ("nchar", []) => Ok(SqlType::Char(1)),
        ("bpchar" | "nchar", [length]) => {
            let length = length.parse().map_err(|_| Error::syntax("invalid type modifier"))?;
            checked_length("char", length, CHAR_BYTES_MAX).map(SqlType::Char)
        }
        ("timetz", _) => Ok(SqlType::TimeTz),
        ("timestamptz", _) => Ok(SqlType::TimestampTz),
        (known @ ("super" | "varbyte" | "hllsketch" | "geometry" | "geography"), _) => {
            Err(Error::not_supported(format!("type {known}")))
        }
        (other, _) => {
            Err(Error::new(ErrorKind::UndefinedType, format!("type \"{other}\" does not exist")))
        }
    }
}

fn unsupported_type(data_type: &ast::DataType) -> Error {
    Error::not_supported(format!("type {}", data_type.to_string().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_reads_back() {
        let all = [
            SqlType::Boolean,
            SqlType::SmallInt,
            SqlType::Integer,
            SqlType::BigInt,
            SqlType::Decimal { precision: 38, scale: 37 },
            SqlType::Real,
            SqlType::Double,
            SqlType::Char(10),
            SqlType::VarChar(25),
            SqlType::Date,
            SqlType::Time,
            SqlType::TimeTz,
            SqlType::Timestamp,
            SqlType::TimestampTz,
        ];
        for sql_type in all {
            assert_eq!(SqlType::from_display(&sql_type.to_string()), Some(sql_type));
        }
        assert_eq!(SqlType::VarChar(25).to_string(), "character varying(25)");
    }
}
