//! From values to text, as Postgres writes them.

use arrow::array::{Array, ArrayRef, AsArray, StringViewArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimestampMicrosecondType};
use datafusion::common::{Result, internal_err};
use std::sync::Arc;

use super::time_zone::Zone;
use crate::error::raise;

/// The values as text; TIMESTAMPTZ in a zone.
pub(super) fn to_text(array: &ArrayRef, zone: Zone) -> Result<ArrayRef> {
    let text: StringViewArray = match array.data_type() {
        DataType::Utf8View => return Ok(Arc::clone(array)),
        DataType::Timestamp(_, time_zone) => {
            let Some(moments) = array.as_primitive_opt::<TimestampMicrosecondType>() else {
                return internal_err!("a timestamp is not in microseconds");
            };
            let write = |moment| match time_zone {
                Some(_) => zoned(moment, zone),
                None => plain(moment),
            };
            moments.iter().map(|moment| moment.map(write).transpose()).collect::<Result<_>>()?
        }
        DataType::Float32 => {
            let write = |value: f32| float_text(&format!("{value:e}"), 6);
            array.as_primitive::<Float32Type>().iter().map(|value| value.map(write)).collect()
        }
        DataType::Float64 => {
            let write = |value: f64| float_text(&format!("{value:e}"), 15);
            array.as_primitive::<Float64Type>().iter().map(|value| value.map(write)).collect()
        }
        _ => return Ok(arrow::compute::cast(array, &DataType::Utf8View)?),
    };
    Ok(Arc::new(text))
}

/// A TIMESTAMP as text: with a blank and not with the T of ISO 8601.
fn plain(microseconds: i64) -> Result<String> {
    let Some(time) = chrono::DateTime::from_timestamp_micros(microseconds) else {
        return Err(raise("22008", "timestamp out of range"));
    };
    let text = time.format("%Y-%m-%d %H:%M:%S").to_string();
    Ok(match time.timestamp_subsec_micros() {
        0 => text,
        micros => format!("{text}.{micros:06}").trim_end_matches('0').to_owned(),
    })
}

/// A TIMESTAMPTZ as text, with its distance from UTC.
fn zoned(microseconds: i64, zone: Zone) -> Result<String> {
    let text = plain(zone.local_of_utc(microseconds)?)?;
    let offset = zone.offset_seconds(microseconds)?;
    let sign = if offset < 0 { '-' } else { '+' };
    let minutes = offset.abs() / 60;
    Ok(match minutes % 60 {
        0 => format!("{text}{sign}{:02}", minutes / 60),
        rest => format!("{text}{sign}{:02}:{rest:02}", minutes / 60),
    })
}

/// A float that is written as `d.ddde-x`, laid out as by C's %g: without an exponent from 1e-4 up to
/// `fixed_exponent_end`.
fn float_text(scientific: &str, fixed_exponent_end: i32) -> String {
    let (sign, magnitude) = match scientific.strip_prefix('-') {
        Some(magnitude) => ("-", magnitude),
        None => ("", scientific),
    };
    let parts = magnitude.split_once('e');
    let Some((mantissa, Ok(exponent))) =
        parts.map(|(mantissa, exponent)| (mantissa, exponent.parse::<i32>()))
    else {
        return if magnitude == "inf" { format!("{sign}Infinity") } else { magnitude.to_owned() };
    };
    if !(-4..fixed_exponent_end).contains(&exponent) {
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        return format!("{sign}{mantissa}e{exponent_sign}{:02}", exponent.abs());
    }
    let digits = mantissa.replace('.', "");
    let Ok(whole) = usize::try_from(exponent + 1) else {
        return format!("{sign}0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1));
    };
    if whole == 0 {
        return format!("{sign}0.{digits}");
    }
    if digits.len() <= whole {
        return format!("{sign}{digits:0<whole$}");
    }
    format!("{sign}{}.{}", &digits[..whole], &digits[whole..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What PostgreSQL 15 writes.
    #[test]
    fn floats_are_written_as_by_postgres() {
        let check = |value: f64, expected: &str| {
            assert_eq!(float_text(&format!("{value:e}"), 15), expected);
        };
        check(0.0, "0");
        check(1.5, "1.5");
        check(-1.5, "-1.5");
        check(1e10, "10000000000");
        check(1e15, "1e+15");
        check(123_456_789.125, "123456789.125");
        check(0.0001, "0.0001");
        check(0.012, "0.012");
        check(0.00001, "1e-05");
        check(1e300, "1e+300");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Infinity");
    }
}
