//! Time zones: names, abbreviations and offsets, and TIMEZONE(zone, moment), which AT TIME ZONE and
//! CONVERT_TIMEZONE are.

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, FixedOffset, LocalResult, Offset, TimeDelta, TimeZone};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::row_function::{Kind, invoke, rows};
use crate::error::raise;

/// Its name in plans.
pub(crate) const NAME: &str = "timezone";

/// A zone: a name of the IANA database, or a fixed distance from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Zone {
    /// Europe/Berlin
    Named(chrono_tz::Tz),
    /// PST, or +01:00
    Fixed(FixedOffset),
}

/// Abbreviations that are no names of zones, with their hours east of UTC in quarters.
const ABBREVIATIONS: [(&str, i32); 34] = [
    ("z", 0),
    ("ut", 0),
    ("zulu", 0),
    ("wet", 0),
    ("west", 4),
    ("bst", 4),
    ("cet", 4),
    ("met", 4),
    ("cest", 8),
    ("eet", 8),
    ("sast", 8),
    ("eest", 12),
    ("msk", 12),
    ("trt", 12),
    ("gst", 16),
    ("pkt", 20),
    ("ist", 22),
    ("npt", 23),
    ("ict", 28),
    ("awst", 32),
    ("hkt", 32),
    ("sgt", 32),
    ("jst", 36),
    ("kst", 36),
    ("acst", 38),
    ("aest", 40),
    ("aedt", 44),
    ("nzst", 48),
    ("nzdt", 52),
    ("brt", -12),
    ("adt", -12),
    ("akst", -36),
    ("akdt", -32),
    ("hst", -40),
];
/// The abbreviations of North America, standard and summer.
const AMERICAN: [(&str, i32); 9] = [
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
    ("ast", -4),
];

impl Zone {
    /// The zone of a name.
    pub(super) fn parse(name: &str) -> Result<Self> {
        let trimmed = name.trim();
        let folded = trimmed.to_ascii_lowercase();
        let hours = AMERICAN.iter().map(|(known, hours)| (*known, hours * 4));
        let quarters = ABBREVIATIONS.iter().copied().chain(hours);
        if let Some((_, quarters)) = quarters.into_iter().find(|(known, _)| *known == folded) {
            return fixed(quarters * 900, name);
        }
        if let Ok(zone) = trimmed.parse() {
            return Ok(Self::Named(zone));
        }
        let named = chrono_tz::TZ_VARIANTS
            .iter()
            .find(|zone| zone.name().eq_ignore_ascii_case(trimmed))
            .copied();
        match named {
            Some(zone) => Ok(Self::Named(zone)),
            None => posix(trimmed).map_or_else(
                || Err(unknown(name)),
                // In POSIX a positive offset is west.
                |seconds| fixed(-seconds, name),
            ),
        }
    }

    /// The moment of a local time. A time that is there twice is the later one, in standard time; one
    /// that is skipped is read with the offset before.
    pub(super) fn utc_of_local(self, local: i64) -> Result<i64> {
        let time = DateTime::from_timestamp_micros(local).ok_or_else(out_of_range)?.naive_utc();
        let zone = match self {
            Self::Fixed(offset) => {
                return Ok(local - i64::from(offset.local_minus_utc()) * 1_000_000);
            }
            Self::Named(zone) => zone,
        };
        let moment = match zone.from_local_datetime(&time) {
            LocalResult::Single(moment) | LocalResult::Ambiguous(_, moment) => moment,
            LocalResult::None => {
                let before =
                    time.checked_sub_signed(TimeDelta::days(1)).ok_or_else(out_of_range)?;
                let offset = zone.offset_from_utc_datetime(&before).fix();
                return Ok(local - i64::from(offset.local_minus_utc()) * 1_000_000);
            }
        };
        Ok(moment.timestamp_micros())
    }

    /// The local time of a moment.
    pub(super) fn local_of_utc(self, moment: i64) -> Result<i64> {
        Ok(moment + i64::from(self.offset_seconds(moment)?) * 1_000_000)
    }

    /// How far east of UTC the zone is at a moment.
    pub(super) fn offset_seconds(self, moment: i64) -> Result<i32> {
        match self {
            Self::Fixed(offset) => Ok(offset.local_minus_utc()),
            Self::Named(zone) => {
                let time =
                    DateTime::from_timestamp_micros(moment).ok_or_else(out_of_range)?.naive_utc();
                Ok(zone.offset_from_utc_datetime(&time).fix().local_minus_utc())
            }
        }
    }

    /// What the zone is called at a moment.
    pub(super) fn abbreviation(self, moment: i64) -> Result<String> {
        match self {
            Self::Fixed(offset) => Ok(offset.to_string()),
            Self::Named(zone) => {
                let time =
                    DateTime::from_timestamp_micros(moment).ok_or_else(out_of_range)?.naive_utc();
                Ok(zone.from_utc_datetime(&time).format("%Z").to_string())
            }
        }
    }
}

fn unknown(name: &str) -> DataFusionError {
    raise("22023", format!("time zone \"{name}\" not recognized"))
}

fn out_of_range() -> DataFusionError {
    raise("22008", "timestamp out of range")
}

fn fixed(seconds: i32, name: &str) -> Result<Zone> {
    FixedOffset::east_opt(seconds).map(Zone::Fixed).ok_or_else(|| unknown(name))
}

/// Seconds of `[letters](+|-)hh[:mm]` as written.
fn posix(text: &str) -> Option<i32> {
    let rest = text.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
    let rest = match rest.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => rest,
    };
    let (sign, digits) = match rest.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, rest.strip_prefix('+').unwrap_or(rest)),
    };
    let (hours, minutes) = digits.split_once(':').unwrap_or((digits, "0"));
    let hours: i32 = hours.parse().ok().filter(|hours| (0..=15).contains(hours))?;
    let minutes: i32 = minutes.parse().ok().filter(|minutes| (0..60).contains(minutes))?;
    Some(sign * (hours * 3_600 + minutes * 60))
}

/// The function.
pub(super) fn functions() -> Vec<ScalarUDF> {
    vec![ScalarUDF::from(AtTimeZone { signature: Signature::user_defined(Volatility::Immutable) })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AtTimeZone {
    signature: Signature,
}

impl ScalarUDFImpl for AtTimeZone {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let moment = match arg_types {
            [_, DataType::Timestamp(_, Some(_))] => Kind::TimestampTz.arrow_type(),
            [
                _,
                DataType::Timestamp(_, None)
                | DataType::Date32
                | DataType::Null
                | DataType::Utf8
                | DataType::Utf8View,
            ] => Kind::Timestamp.arrow_type(),
            _ => return plan_err!("no such arguments"),
        };
        Ok(vec![DataType::Utf8View, moment])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match arg_types.last() {
            Some(DataType::Timestamp(_, Some(_))) => {
                DataType::Timestamp(TimeUnit::Microsecond, None)
            }
            _ => Kind::TimestampTz.arrow_type(),
        })
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type().clone();
        invoke(&args.args, args.number_rows, |arrays| convert(arrays, &result))
    }
}

fn convert(arrays: &[ArrayRef], result: &DataType) -> Result<ArrayRef> {
    let zones = arrays[0].as_string_view();
    let moments = arrays[1].as_primitive::<TimestampMicrosecondType>();
    let to_local = matches!(result, DataType::Timestamp(_, None));
    let mut last: Option<(&str, Zone)> = None;
    let converted = rows(arrays, |row| {
        let name = zones.value(row);
        let zone = match last {
            Some((known, zone)) if known == name => zone,
            _ => Zone::parse(name)?,
        };
        last = Some((name, zone));
        if to_local {
            zone.local_of_utc(moments.value(row))
        } else {
            zone.utc_of_local(moments.value(row))
        }
    })?;
    let converted: PrimitiveArray<TimestampMicrosecondType> = converted.into_iter().collect();
    Ok(Arc::new(converted.with_data_type(result.clone())))
}
