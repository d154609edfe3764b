//! From text to values, with the errors of Postgres.

use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{Date32Type, Time64MicrosecondType};
use chrono::Utc;
use datafusion::common::{DataFusionError, Result};

use super::decimal::{overflow, power_of_ten};
use super::time_zone::Zone;
use crate::error::raise;

fn invalid(type_name: &str, text: &str) -> DataFusionError {
    raise("22P02", format!("invalid input syntax for {type_name}: \"{text}\""))
}

/// What looks like a date or a time, but that no calendar or clock has, is out of range.
fn invalid_or_overflow(type_name: &str, text: &str) -> DataFusionError {
    let trimmed = text.trim();
    let is_plausible = trimmed.len() >= 5
        && trimmed.bytes().all(|byte| byte.is_ascii_digit() || b"-:. +/TZ".contains(&byte))
        && trimmed.bytes().filter(u8::is_ascii_digit).count() >= 4
        && trimmed.bytes().filter(|byte| b"-:/.".contains(byte)).count() >= 2;
    if is_plausible {
        return raise("22008", format!("date/time field value out of range: \"{text}\""));
    }
    invalid_date(type_name, text)
}

fn invalid_date(type_name: &str, text: &str) -> DataFusionError {
    raise("22007", format!("invalid input syntax for type {type_name}: \"{text}\""))
}

/// An integer within bounds.
pub(super) fn integer(text: &str, type_name: &str, min: i64, max: i64) -> Result<i64> {
    let trimmed = text.trim();
    let digits = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid("integer", text));
    }
    match trimmed.parse::<i64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(raise("22003", format!("value \"{text}\" is out of range for type {type_name}"))),
    }
}

/// A floating-point number.
pub(super) fn float(text: &str) -> Result<f64> {
    let value: f64 = text.trim().parse().map_err(|_| invalid("type double precision", text))?;
    let names_infinity = text.to_ascii_lowercase().contains("inf");
    if value.is_infinite() && !names_infinity {
        return Err(raise(
            "22003",
            format!("\"{text}\" is out of range for type double precision"),
        ));
    }
    Ok(value)
}

/// A decimal at a scale, rounded half away from zero; an exponent is allowed.
pub(super) fn decimal(text: &str, precision: u8, scale: u8) -> Result<i128> {
    let trimmed = text.trim();
    let (mantissa, exponent) = match trimmed.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| invalid("type numeric", text))?)
        }
        None => (trimmed, 0),
    };
    let unsigned = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits: Vec<u8> = whole.bytes().chain(fraction.bytes()).collect();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid("type numeric", text));
    }
    // The digits stand for an integer times 10^point.
    let fraction_length = i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let kept = i32::try_from(digits.len())
        .unwrap_or(i32::MAX)
        .saturating_sub(fraction_length)
        .saturating_add(exponent)
        .saturating_add(i32::from(scale));
    let magnitude = scaled(&digits, kept).ok_or_else(overflow)?;
    if magnitude >= power_of_ten(u32::from(precision)) {
        return Err(overflow());
    }
    Ok(if mantissa.starts_with('-') { -magnitude } else { magnitude })
}

/// The number of the first `kept` digits, filled with zeros, rounded by the next one.
fn scaled(digits: &[u8], kept: i32) -> Option<i128> {
    if digits.iter().all(|digit| *digit == b'0') {
        return Some(0);
    }
    let Ok(kept) = usize::try_from(kept) else { return Some(0) };
    let mut magnitude: i128 = 0;
    for index in 0..kept {
        let digit = digits.get(index).map_or(0, |digit| digit - b'0');
        magnitude = magnitude.checked_mul(10)?.checked_add(i128::from(digit))?;
        // Leading zeros may be many; anything else soon is too large.
        if magnitude >= power_of_ten(38) {
            return None;
        }
    }
    let rounds_up = digits.get(kept).is_some_and(|digit| *digit >= b'5');
    Some(magnitude + i128::from(rounds_up))
}

/// A boolean.
pub(super) fn boolean(text: &str) -> Result<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "y" | "yes" | "1" | "on" => Ok(true),
        "f" | "false" | "n" | "no" | "0" | "off" => Ok(false),
        _ => Err(invalid("type boolean", text)),
    }
}

/// Days since 1970-01-01; a time of day is ignored.
pub(super) fn date(text: &str) -> Result<i32> {
    let trimmed = text.trim();
    if let Some(days) = Date32Type::parse(trimmed) {
        return Ok(days);
    }
    if let Some(days) = other_date(trimmed) {
        return Ok(days);
    }
    match timestamp(trimmed) {
        Ok(microseconds) => Ok(i32::try_from(microseconds.div_euclid(86_400_000_000)).unwrap_or(0)),
        Err(_) => Err(invalid_or_overflow("date", text)),
    }
}

/// The other spellings of dates: mm/dd/yyyy, yyyymmdd, dd.mm.yyyy, mon dd yyyy.
fn other_date(text: &str) -> Option<i32> {
    const FORMATS: [&str; 7] =
        ["%m/%d/%Y", "%Y%m%d", "%d.%m.%Y", "%b %d %Y", "%b %d, %Y", "%d %b %Y", "%Y/%m/%d"];
    let date =
        FORMATS.iter().find_map(|format| chrono::NaiveDate::parse_from_str(text, format).ok())?;
    Some(Date32Type::from_naive_date(date))
}

/// Microseconds since 1970-01-01; an offset in the text is ignored.
pub(super) fn timestamp(text: &str) -> Result<i64> {
    let trimmed = text.trim();
    // A zone in the text does not move a TIMESTAMP, so it is read as UTC without it.
    let without_zone = strip_zone(trimmed);
    parse_timestamp(without_zone)
        .ok_or_else(|| invalid_or_overflow("timestamp without time zone", text))
}

/// Microseconds since 1970-01-01 UTC; without an offset or a zone the time is in `zone`.
pub(super) fn timestamp_tz(text: &str, zone: Zone) -> Result<i64> {
    const TYPE: &str = "timestamp with time zone";
    let trimmed = text.trim();
    if strip_zone(trimmed) == trimmed {
        if let Some(local) = parse_timestamp(trimmed) {
            return zone.utc_of_local(local);
        }
        // A zone by name stands behind a blank.
        let named = trimmed
            .rsplit_once(' ')
            .filter(|(_, name)| name.starts_with(|first: char| first.is_ascii_alphabetic()));
        if let Some((local, name)) = named
            && let Some(local) = parse_timestamp(local.trim_end())
        {
            return Zone::parse(name)?.utc_of_local(local);
        }
        return Err(invalid_or_overflow(TYPE, text));
    }
    string_to_datetime(&Utc, trimmed)
        .map(|time| time.timestamp_micros())
        .map_err(|_| invalid_or_overflow(TYPE, text))
}

fn parse_timestamp(text: &str) -> Option<i64> {
    if let Ok(time) = string_to_datetime(&Utc, text) {
        return Some(time.timestamp_micros());
    }
    let (date_text, time_text) = text.split_once(' ').unwrap_or((text, "00:00:00"));
    let days = other_date(text).or_else(|| other_date(date_text))?;
    let time = if other_date(text).is_some() { 0 } else { time_of_day(time_text)? };
    Some(i64::from(days) * 86_400_000_000 + time)
}

fn time_of_day(text: &str) -> Option<i64> {
    Time64MicrosecondType::parse(text)
}

/// Microseconds since midnight.
pub(super) fn time(text: &str) -> Result<i64> {
    time_of_day(text.trim()).ok_or_else(|| invalid_or_overflow("time", text))
}

/// The text before Z or an offset after the time of day.
fn strip_zone(text: &str) -> &str {
    let Some(colon) = text.find(':') else { return text };
    match text[colon..].find(['+', '-', 'Z', 'z']) {
        Some(index) => text[..colon + index].trim_end(),
        None => text,
    }
}
