//! Parameters of a Bind, text and binary, to values of the types the statement expects.
//!
//! A parameter is read by the type the client was told or has declared, and then converted to the
//! type the engine wants, which differs where a client declares another one.

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use bytes::{Buf, Bytes};
use chrono_tz::Tz;
use datafusion::scalar::ScalarValue;

use crate::pgwire::datetime::{self, ParsedDateTime, ParsedZone};
use crate::pgwire::message::{self, Format};
use crate::pgwire::number::{Decimal, DecimalError};
use crate::pgwire::report::{Report, sqlstate};
use crate::pgwire::types::{WireType, oid};

/// The most digits of a DECIMAL.
const PRECISION_MAX: u8 = 38;

/// What is known of a parameter before its value.
#[derive(Clone, Copy)]
pub(crate) struct Parameter<'a> {
    /// The type by which the bytes are read.
    pub(crate) oid: u32,
    /// The type that is wanted.
    pub(crate) data_type: &'a DataType,
    pub(crate) format: Format,
    /// For moments without a zone of their own.
    pub(crate) time_zone: Tz,
    pub(crate) interval_is_12_bytes: bool,
}

impl Parameter<'_> {
    /// NULL of the type.
    pub(crate) fn null(&self) -> Result<ScalarValue, Report> {
        ScalarValue::try_from(self.data_type).map_err(|_| self.unsupported())
    }

    /// Reads a value.
    ///
    /// # Errors
    /// 22P02, 22P03, 22003, 22007, 22008 or 22021 by what is wrong; 0A000 for types that parameters
    /// cannot have.
    pub(crate) fn decode(&self, bytes: &Bytes) -> Result<ScalarValue, Report> {
        let natural = match self.format {
            Format::Text => self.decode_text(utf8(bytes)?)?,
            Format::Binary => self.decode_binary(bytes)?,
        };
        self.convert(natural)
    }

    fn decode_text(&self, text: &str) -> Result<ScalarValue, Report> {
        let invalid = |type_name: &str| invalid_text(type_name, text);
        let trimmed = text.trim();
        Ok(match self.oid {
            oid::BOOL => {
                ScalarValue::Boolean(Some(parse_bool(trimmed).ok_or_else(|| invalid("boolean"))?))
            }
            oid::INT2 => ScalarValue::Int16(Some(parse_integer(text, "smallint")?)),
            oid::INT4 => ScalarValue::Int32(Some(parse_integer(text, "integer")?)),
            oid::INT8 => ScalarValue::Int64(Some(parse_integer(text, "bigint")?)),
            oid::OID => ScalarValue::Int64(Some(parse_integer::<u32>(text, "oid")?.into())),
            oid::FLOAT4 => {
                let value: f32 = trimmed.parse().map_err(|_| invalid("real"))?;
                check_finite(value.is_infinite(), trimmed, "real")?;
                ScalarValue::Float32(Some(value))
            }
            oid::FLOAT8 => {
                let value: f64 = trimmed.parse().map_err(|_| invalid("double precision"))?;
                check_finite(value.is_infinite(), trimmed, "double precision")?;
                ScalarValue::Float64(Some(value))
            }
            oid::NUMERIC => {
                let decimal = Decimal::parse(trimmed).map_err(|error| match error {
                    DecimalError::Syntax => invalid("numeric"),
                    DecimalError::Overflow => numeric_overflow(),
                })?;
                return self.convert_decimal(decimal);
            }
            oid::BYTEA | oid::VARBYTE => {
                ScalarValue::Binary(Some(parse_hex(text).ok_or_else(|| invalid("bytea"))?))
            }
            oid::DATE => ScalarValue::Date32(Some(parse_date(text)?)),
            oid::TIME | oid::TIMETZ => {
                let (time, zone) =
                    datetime::parse_time(text).ok_or_else(|| invalid_datetime("time", text))?;
                self.time(time, zone)?
            }
            oid::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(parse_timestamp(text)?), None),
            oid::TIMESTAMPTZ => {
                let value = parse_moment(text, self.time_zone)?;
                ScalarValue::TimestampMicrosecond(Some(value), Some("UTC".into()))
            }
            oid::INTERVAL => ScalarValue::Utf8(Some(text.to_owned()))
                .cast_to(&DataType::Interval(IntervalUnit::MonthDayNano))
                .map_err(|_| invalid_datetime("interval", text))?,
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR | oid::UNKNOWN => {
                ScalarValue::Utf8View(Some(text.to_owned()))
            }
            _ => return Err(self.unsupported()),
        })
    }

    fn decode_binary(&self, bytes: &Bytes) -> Result<ScalarValue, Report> {
        let mut rest: &[u8] = bytes;
        let invalid = |_| invalid_binary();
        let value = match self.oid {
            oid::BOOL => ScalarValue::Boolean(Some(rest.try_get_u8().map_err(invalid)? != 0)),
            oid::INT2 => ScalarValue::Int16(Some(rest.try_get_i16().map_err(invalid)?)),
            oid::INT4 => ScalarValue::Int32(Some(rest.try_get_i32().map_err(invalid)?)),
            oid::INT8 => ScalarValue::Int64(Some(rest.try_get_i64().map_err(invalid)?)),
            oid::OID => ScalarValue::Int64(Some(rest.try_get_u32().map_err(invalid)?.into())),
            oid::FLOAT4 => ScalarValue::Float32(Some(rest.try_get_f32().map_err(invalid)?)),
            oid::FLOAT8 => ScalarValue::Float64(Some(rest.try_get_f64().map_err(invalid)?)),
            oid::NUMERIC => {
                let decimal = Decimal::parse_binary(rest).map_err(|error| match error {
                    DecimalError::Syntax => invalid_binary(),
                    DecimalError::Overflow => numeric_overflow(),
                })?;
                return self.convert_decimal(decimal);
            }
            oid::BYTEA | oid::VARBYTE => return Ok(ScalarValue::Binary(Some(rest.to_vec()))),
            oid::DATE => {
                let days = rest.try_get_i32().map_err(invalid)?;
                ScalarValue::Date32(Some(match days {
                    i32::MAX | i32::MIN => days,
                    days => days
                        .checked_add(datetime::POSTGRES_EPOCH_DAYS)
                        .ok_or_else(|| out_of_range("date"))?,
                }))
            }
            oid::TIME => self.time(rest.try_get_i64().map_err(invalid)?, None)?,
            oid::TIMETZ => {
                let time = rest.try_get_i64().map_err(invalid)?;
                let west = rest.try_get_i32().map_err(invalid)?;
                self.time(time, Some(ParsedZone::Offset(west.saturating_neg())))?
            }
            oid::TIMESTAMP | oid::TIMESTAMPTZ => {
                let moment = match rest.try_get_i64().map_err(invalid)? {
                    extreme @ (i64::MAX | i64::MIN) => extreme,
                    moment => moment
                        .checked_add(datetime::POSTGRES_EPOCH_MICROSECONDS)
                        .ok_or_else(|| out_of_range("timestamp"))?,
                };
                let zone = (self.oid == oid::TIMESTAMPTZ).then(|| "UTC".into());
                ScalarValue::TimestampMicrosecond(Some(moment), zone)
            }
            oid::INTERVAL => self.interval(&mut rest)?,
            oid::TEXT | oid::VARCHAR | oid::BPCHAR | oid::NAME | oid::CHAR | oid::UNKNOWN => {
                return Ok(ScalarValue::Utf8View(Some(utf8(bytes)?.to_owned())));
            }
            _ => return Err(self.unsupported()),
        };
        if rest.is_empty() { Ok(value) } else { Err(invalid_binary()) }
    }

    fn interval(&self, rest: &mut &[u8]) -> Result<ScalarValue, Report> {
        let invalid = |_| invalid_binary();
        let microseconds = rest.try_get_i64().map_err(invalid)?;
        let (days, months) = if self.interval_is_12_bytes {
            let days = rest.try_get_i16().map_err(invalid)?;
            (days.into(), rest.try_get_i16().map_err(invalid)?.into())
        } else {
            (rest.try_get_i32().map_err(invalid)?, rest.try_get_i32().map_err(invalid)?)
        };
        let nanoseconds = microseconds.checked_mul(1000).ok_or_else(|| out_of_range("interval"))?;
        let value = IntervalMonthDayNano { months, days, nanoseconds };
        Ok(ScalarValue::IntervalMonthDayNano(Some(value)))
    }

    /// A TIME, or a TIMETZ, which is kept in UTC.
    fn time(&self, time: i64, zone: Option<ParsedZone>) -> Result<ScalarValue, Report> {
        if !(0..=datetime::MICROSECONDS_PER_DAY).contains(&time) {
            return Err(out_of_range("time"));
        }
        if self.oid == oid::TIME {
            return Ok(ScalarValue::Time64Microsecond(Some(time)));
        }
        let offset = match zone {
            Some(ParsedZone::Offset(offset)) => i64::from(offset),
            // The offset of a named zone depends on a date, which a time has not.
            Some(ParsedZone::Named(zone)) if zone != Tz::UTC => {
                return Err(Report::error(
                    sqlstate::FEATURE_NOT_SUPPORTED,
                    "a time with a named time zone is not supported",
                ));
            }
            Some(ParsedZone::Named(_)) | None => 0,
        };
        let utc = (time - offset * 1_000_000).rem_euclid(datetime::MICROSECONDS_PER_DAY);
        Ok(ScalarValue::Time64Nanosecond(Some(utc * 1000)))
    }

    fn convert_decimal(&self, decimal: Decimal) -> Result<ScalarValue, Report> {
        let rescaled = |scale: i32| decimal.rescaled(scale).map_err(|_| numeric_overflow());
        let integer =
            |type_name: &str| i64::try_from(rescaled(0)?).map_err(|_| integer_overflow(type_name));
        match self.data_type {
            DataType::Decimal128(precision, scale) => {
                let mantissa = rescaled((*scale).into())?;
                let limit = 10_u128.checked_pow((*precision).into());
                if limit.is_some_and(|limit| mantissa.unsigned_abs() >= limit) {
                    return Err(numeric_overflow());
                }
                Ok(ScalarValue::Decimal128(Some(mantissa), *precision, *scale))
            }
            DataType::Int16 => {
                let value = i16::try_from(integer("smallint")?);
                Ok(ScalarValue::Int16(Some(value.map_err(|_| integer_overflow("smallint"))?)))
            }
            DataType::Int32 => {
                let value = i32::try_from(integer("integer")?);
                Ok(ScalarValue::Int32(Some(value.map_err(|_| integer_overflow("integer"))?)))
            }
            DataType::Int64 => Ok(ScalarValue::Int64(Some(integer("bigint")?))),
            data_type => {
                let scale = i8::try_from(decimal.scale.clamp(0, PRECISION_MAX.into()))
                    .map_err(|_| numeric_overflow())?;
                let mantissa = rescaled(scale.into())?;
                let exact = ScalarValue::Decimal128(Some(mantissa), PRECISION_MAX, scale);
                match data_type {
                    DataType::Null => Ok(exact),
                    data_type => exact.cast_to(data_type).map_err(|_| numeric_overflow()),
                }
            }
        }
    }

    fn convert(&self, value: ScalarValue) -> Result<ScalarValue, Report> {
        if &value.data_type() == self.data_type || self.data_type == &DataType::Null {
            return Ok(value);
        }
        match (&value, self.data_type) {
            (ScalarValue::Utf8View(Some(text)), target) if !is_string(target) => {
                let oid = WireType::of_data_type(target).oid;
                Parameter { oid, ..*self }.decode(&Bytes::copy_from_slice(text.as_bytes()))
            }
            (
                ScalarValue::TimestampMicrosecond(Some(local), None),
                DataType::Timestamp(TimeUnit::Microsecond, Some(zone)),
            ) => {
                let moment = datetime::local_to_utc(*local, self.time_zone);
                Ok(ScalarValue::TimestampMicrosecond(Some(moment), Some(zone.as_ref().into())))
            }
            (_, target) => value.cast_to(target).map_err(|error| {
                Report::error(
                    sqlstate::INVALID_TEXT_REPRESENTATION,
                    "a parameter cannot be converted to the type that is wanted",
                )
                .with_detail(error.strip_backtrace())
            }),
        }
    }

    fn unsupported(&self) -> Report {
        Report::error(
            sqlstate::FEATURE_NOT_SUPPORTED,
            format!("parameters of the type with OID {} are not supported", self.oid),
        )
    }
}

fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn utf8(bytes: &[u8]) -> Result<&str, Report> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| message::invalid_utf8(bytes, error.valid_up_to()))?;
    match text.find('\0') {
        Some(position) => Err(message::invalid_utf8(bytes, position)),
        None => Ok(text),
    }
}

/// Any beginning of a word that is not the beginning of another, as in Postgres.
fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

fn parse_integer<T: TryFrom<i128>>(text: &str, type_name: &str) -> Result<T, Report> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_text(type_name, text));
    }
    let value = trimmed.parse::<i128>().ok().and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| {
        Report::error(
            sqlstate::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("value \"{text}\" is out of range for type {type_name}"),
        )
    })
}

/// A number may be infinite only if the text says so.
fn check_finite(is_infinite: bool, text: &str, type_name: &str) -> Result<(), Report> {
    if is_infinite && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(Report::error(
            sqlstate::NUMERIC_VALUE_OUT_OF_RANGE,
            format!("\"{text}\" is out of range for type {type_name}"),
        ));
    }
    Ok(())
}

fn parse_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("\\x")?.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(nibble(pair[0])? * 16 + nibble(pair[1])?).ok())
        .collect()
}

fn parse_date(text: &str) -> Result<i32, Report> {
    match datetime::parse_datetime(text) {
        None => Err(invalid_datetime("date", text)),
        Some(ParsedDateTime::Infinity) => Ok(i32::MAX),
        Some(ParsedDateTime::NegativeInfinity) => Ok(i32::MIN),
        Some(ParsedDateTime::Finite { days, .. }) => {
            i32::try_from(days).map_err(|_| out_of_range("date"))
        }
    }
}

/// A zone in the text is ignored, as in Postgres.
fn parse_timestamp(text: &str) -> Result<i64, Report> {
    match datetime::parse_datetime(text) {
        None => Err(invalid_datetime("timestamp", text)),
        Some(ParsedDateTime::Infinity) => Ok(i64::MAX),
        Some(ParsedDateTime::NegativeInfinity) => Ok(i64::MIN),
        Some(ParsedDateTime::Finite { days, time, .. }) => microseconds(days, time),
    }
}

fn parse_moment(text: &str, session_zone: Tz) -> Result<i64, Report> {
    let local = parse_timestamp(text)?;
    match datetime::parse_datetime(text) {
        Some(ParsedDateTime::Finite { zone, .. }) => Ok(match zone {
            Some(ParsedZone::Offset(offset)) => local
                .checked_sub(i64::from(offset) * 1_000_000)
                .ok_or_else(|| out_of_range("timestamp"))?,
            Some(ParsedZone::Named(zone)) => datetime::local_to_utc(local, zone),
            None => datetime::local_to_utc(local, session_zone),
        }),
        _ => Ok(local),
    }
}

fn microseconds(days: i64, time: i64) -> Result<i64, Report> {
    days.checked_mul(datetime::MICROSECONDS_PER_DAY)
        .and_then(|start| start.checked_add(time))
        .ok_or_else(|| out_of_range("timestamp"))
}

fn invalid_text(type_name: &str, text: &str) -> Report {
    Report::error(
        sqlstate::INVALID_TEXT_REPRESENTATION,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn invalid_datetime(type_name: &str, text: &str) -> Report {
    Report::error(
        sqlstate::INVALID_DATETIME_FORMAT,
        format!("invalid input syntax for type {type_name}: \"{text}\""),
    )
}

fn invalid_binary() -> Report {
    Report::error(
        sqlstate::INVALID_BINARY_REPRESENTATION,
        "incorrect binary data format in bind parameter",
    )
}

fn numeric_overflow() -> Report {
    Report::error(sqlstate::NUMERIC_VALUE_OUT_OF_RANGE, "numeric field overflow")
}

fn integer_overflow(type_name: &str) -> Report {
    Report::error(sqlstate::NUMERIC_VALUE_OUT_OF_RANGE, format!("{type_name} out of range"))
}

fn out_of_range(type_name: &str) -> Report {
    Report::error(sqlstate::DATETIME_FIELD_OVERFLOW, format!("{type_name} out of range"))
}
