//! Dates and times as Postgres writes them in style ISO, and as clients write parameters.
//!
//! Days and microseconds count from 1970-01-01 as in Arrow; the extreme values are the infinities,
//! as in Postgres. The calendar is the proleptic Gregorian one; the year before 1 is 1 BC.

use bytes::{BufMut, BytesMut};
use chrono::{DateTime, NaiveDateTime, Offset, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};

pub(crate) const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;
const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
/// 2000-01-01, from which the binary formats count.
pub(crate) const POSTGRES_EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
pub(crate) const POSTGRES_EPOCH_MICROSECONDS: i64 =
    POSTGRES_EPOCH_DAYS as i64 * MICROSECONDS_PER_DAY;

/// Appends `YYYY-MM-DD`, with ` BC` if so.
pub(crate) fn put_date(out: &mut BytesMut, days: i32) {
    match days {
        i32::MAX => out.put_slice(b"infinity"),
        i32::MIN => out.put_slice(b"-infinity"),
        days => {
            let era = put_civil(out, i64::from(days));
            out.put_slice(era);
        }
    }
}

/// Appends `HH:MM:SS[.ffffff]`; 24:00:00 is a time.
pub(crate) fn put_time(out: &mut BytesMut, microseconds: i64) {
    let seconds = microseconds.div_euclid(MICROSECONDS_PER_SECOND);
    let fraction = microseconds.rem_euclid(MICROSECONDS_PER_SECOND);
    put_padded(out, seconds / 3600);
    out.put_u8(b':');
    put_padded(out, seconds / 60 % 60);
    out.put_u8(b':');
    put_padded(out, seconds % 60);
    put_fraction(out, fraction);
}

/// Appends a TIMETZ, which Redshift keeps and prints in UTC.
pub(crate) fn put_time_utc(out: &mut BytesMut, microseconds: i64) {
    put_time(out, microseconds);
    out.put_slice(b"+00");
}

/// Appends `YYYY-MM-DD HH:MM:SS[.ffffff]`, with ` BC` if so.
pub(crate) fn put_timestamp(out: &mut BytesMut, microseconds: i64) {
    put_local(out, microseconds, None);
}

/// Appends a moment in the local time of a zone, with its offset.
pub(crate) fn put_timestamp_in_zone(out: &mut BytesMut, microseconds: i64, zone: Tz) {
    let offset = if zone == Tz::UTC { 0 } else { offset_seconds(microseconds, zone) };
    put_local(out, microseconds, Some(offset));
}

fn put_local(out: &mut BytesMut, microseconds: i64, offset: Option<i32>) {
    match microseconds {
        i64::MAX => return out.put_slice(b"infinity"),
        i64::MIN => return out.put_slice(b"-infinity"),
        _ => {}
    }
    let shift = i64::from(offset.unwrap_or(0)) * MICROSECONDS_PER_SECOND;
    let local = microseconds.saturating_add(shift);
    let era = put_civil(out, local.div_euclid(MICROSECONDS_PER_DAY));
    out.put_u8(b' ');
    put_time(out, local.rem_euclid(MICROSECONDS_PER_DAY));
    if let Some(offset) = offset {
        put_offset(out, offset);
    }
    out.put_slice(era);
}

/// Appends `+HH[:MM[:SS]]`.
fn put_offset(out: &mut BytesMut, offset: i32) {
    out.put_u8(if offset < 0 { b'-' } else { b'+' });
    let seconds = i64::from(offset.unsigned_abs());
    put_padded(out, seconds / 3600);
    if seconds % 3600 != 0 {
        out.put_u8(b':');
        put_padded(out, seconds / 60 % 60);
    }
    if seconds % 60 != 0 {
        out.put_u8(b':');
        put_padded(out, seconds % 60);
    }
}

/// The offset from UTC at a moment. Beyond chrono's years the zone's rules mean nothing.
fn offset_seconds(microseconds: i64, zone: Tz) -> i32 {
    DateTime::from_timestamp_micros(microseconds).map_or(0, |moment| {
        zone.offset_from_utc_datetime(&moment.naive_utc()).fix().local_minus_utc()
    })
}

/// The moment of a local time in a zone. In the hour that occurs twice the first one is taken; in
/// the hour that is skipped the offset before it, as in Postgres.
pub(crate) fn local_to_utc(microseconds: i64, zone: Tz) -> i64 {
    let Some(local) = DateTime::from_timestamp_micros(microseconds) else { return microseconds };
    let local: NaiveDateTime = local.naive_utc();
    let offset = zone.offset_from_local_datetime(&local).earliest().map_or_else(
        || offset_seconds(microseconds.saturating_sub(MICROSECONDS_PER_DAY), zone),
        |offset| offset.fix().local_minus_utc(),
    );
    microseconds.saturating_sub(i64::from(offset) * MICROSECONDS_PER_SECOND)
}

/// Appends an interval in style `postgres`: `1 year 2 mons -3 days +04:05:06.7`.
pub(crate) fn put_interval(out: &mut BytesMut, months: i32, days: i32, microseconds: i64) {
    let start = out.len();
    let mut after_negative = false;
    let mut put_part = |out: &mut BytesMut, value: i32, unit: &[u8]| {
        if value == 0 {
            return;
        }
        if out.len() > start {
            out.put_u8(b' ');
        }
        if after_negative && value > 0 {
            out.put_u8(b'+');
        }
        put_integer(out, i64::from(value));
        out.put_u8(b' ');
        out.put_slice(unit);
        if value != 1 {
            out.put_u8(b's');
        }
        after_negative = value < 0;
    };
    put_part(out, months / 12, b"year");
    put_part(out, months % 12, b"mon");
    put_part(out, days, b"day");
    let is_empty = out.len() == start;
    if !is_empty && microseconds == 0 {
        return;
    }
    if !is_empty {
        out.put_u8(b' ');
    }
    if microseconds < 0 {
        out.put_u8(b'-');
    } else if after_negative {
        out.put_u8(b'+');
    }
    let absolute = microseconds.unsigned_abs();
    let seconds = i64::try_from(absolute / 1_000_000).unwrap_or(i64::MAX);
    let hours = seconds / 3600;
    if hours < 10 {
        out.put_u8(b'0');
    }
    put_integer(out, hours);
    out.put_u8(b':');
    put_padded(out, seconds / 60 % 60);
    out.put_u8(b':');
    put_padded(out, seconds % 60);
    put_fraction(out, i64::try_from(absolute % 1_000_000).unwrap_or(0));
}

/// Appends a decimal integer.
pub(crate) fn put_integer(out: &mut BytesMut, value: i64) {
    if value < 0 {
        out.put_u8(b'-');
    }
    put_unsigned(out, value.unsigned_abs());
}

/// Appends a decimal integer without sign.
pub(crate) fn put_unsigned(out: &mut BytesMut, mut value: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.put_slice(&digits[start..]);
}

/// Appends at least two digits.
fn put_padded(out: &mut BytesMut, value: i64) {
    if (0..100).contains(&value) {
        out.put_slice(&[b'0' + (value / 10) as u8, b'0' + (value % 10) as u8]);
    } else {
        put_integer(out, value);
    }
}

fn put_fraction(out: &mut BytesMut, microseconds: i64) {
    if microseconds == 0 {
        return;
    }
    let mut digits = [b'.', 0, 0, 0, 0, 0, 0];
    let mut rest = microseconds;
    for digit in digits[1..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let length = digits.iter().rposition(|digit| *digit != b'0').unwrap_or(0) + 1;
    out.put_slice(&digits[..length]);
}

/// Appends year, month and day; returns what the era appends at the end.
fn put_civil(out: &mut BytesMut, days: i64) -> &'static [u8] {
    let (year, month, day) = civil_from_days(days);
    let (year, era): (i64, &[u8]) = if year > 0 { (year, b"") } else { (1 - year, b" BC") };
    if year < 10_000 {
        put_padded(out, year / 100);
        put_padded(out, year % 100);
    } else {
        put_integer(out, year);
    }
    out.put_u8(b'-');
    put_padded(out, month);
    out.put_u8(b'-');
    put_padded(out, day);
    era
}

/// Year (0 is 1 BC), month and day of a day number; after Howard Hinnant, "chrono-compatible
/// low-level date algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`]; `None` if there is no such day.
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year.abs() > 6_000_000 {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    // 30 February comes back as another day.
    (civil_from_days(days) == (year, month, day)).then_some(days)
}

/// A text taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedDateTime {
    Infinity,
    NegativeInfinity,
    Finite {
        days: i64,
        /// Microseconds of the day.
        time: i64,
        zone: Option<ParsedZone>,
    },
}

/// The zone of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParsedZone {
    /// Seconds east of UTC.
    Offset(i32),
    Named(Tz),
}

/// Takes `YYYY-MM-DD[( |T)HH:MM[:SS[.f]]][ ][zone][ BC]` apart; `None` if it is not that.
pub(crate) fn parse_datetime(text: &str) -> Option<ParsedDateTime> {
    let text = text.trim();
    match text.to_ascii_lowercase().as_str() {
        "infinity" | "+infinity" => return Some(ParsedDateTime::Infinity),
        "-infinity" => return Some(ParsedDateTime::NegativeInfinity),
        _ => {}
    }
    let (text, is_bc) = match text.strip_suffix("BC").or_else(|| text.strip_suffix("bc")) {
        Some(rest) => (rest.trim_end(), true),
        None => (text, false),
    };
    let date_end = text.find([' ', 'T', 't']).unwrap_or(text.len());
    let (date, rest) = text.split_at(date_end);
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || year.len() < 4 {
        return None;
    }
    let year = digits(year)?;
    if year == 0 {
        return None;
    }
    let year = if is_bc { 1 - year } else { year };
    let days = days_from_civil(year, digits(month)?, digits(day)?)?;
    let rest = rest.trim_start_matches([' ', 'T', 't']);
    let (time, zone) = match rest.starts_with(|first: char| first.is_ascii_digit()) {
        true => parse_time(rest)?,
        false => (0, parse_zone(rest)?),
    };
    Some(ParsedDateTime::Finite { days, time, zone })
}

/// Takes `HH:MM[:SS[.f]][ ][zone]` apart; `None` if it is not that.
pub(crate) fn parse_time(text: &str) -> Option<(i64, Option<ParsedZone>)> {
    let text = text.trim();
    let end = text
        .find(|character: char| !character.is_ascii_digit() && !matches!(character, ':' | '.'))
        .unwrap_or(text.len());
    let (clock, zone) = text.split_at(end);
    let mut parts = clock.split(':');
    let hours = digits(parts.next()?)?;
    let minutes = digits(parts.next()?)?;
    let (seconds, fraction) = match parts.next() {
        None => (0, 0),
        Some(seconds) => match seconds.split_once('.') {
            None => (digits(seconds)?, 0),
            Some((seconds, fraction)) => (digits(seconds)?, parse_fraction(fraction)?),
        },
    };
    if parts.next().is_some() || hours > 24 || minutes > 59 || seconds > 60 {
        return None;
    }
    let total = (hours * 3600 + minutes * 60 + seconds) * MICROSECONDS_PER_SECOND + fraction;
    (total <= MICROSECONDS_PER_DAY).then_some((total, parse_zone(zone)?))
}

/// Microseconds of a fraction, rounded half up.
fn parse_fraction(text: &str) -> Option<i64> {
    if text.is_empty() {
        return Some(0);
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let padded: String = text.chars().chain("000000".chars()).take(6).collect();
    let rounds_up = text.as_bytes().get(6).is_some_and(|digit| *digit >= b'5');
    Some(digits(&padded)? + i64::from(rounds_up))
}

/// A zone: nothing, `Z`, an offset or a name. The outer option is failure.
fn parse_zone(text: &str) -> Option<Option<ParsedZone>> {
    let text = text.trim();
    let sign = match text.as_bytes().first() {
        None => return Some(None),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) if text.eq_ignore_ascii_case("z") => return Some(Some(ParsedZone::Offset(0))),
        Some(_) => {
            let named = TZ_VARIANTS.iter().find(|zone| zone.name().eq_ignore_ascii_case(text))?;
            return Some(Some(ParsedZone::Named(*named)));
        }
    };
    let numbers = &text[1..];
    let parts: Vec<&str> = if numbers.contains(':') || numbers.len() <= 2 {
        numbers.split(':').collect()
    } else {
        let hours_end =
            numbers.len().checked_sub(2).filter(|end| numbers.is_char_boundary(*end))?;
        let (hours, minutes) = numbers.split_at(hours_end);
        vec![hours, minutes]
    };
    let mut seconds = 0;
    for (index, unit) in [3600, 60, 1].into_iter().enumerate() {
        let Some(part) = parts.get(index) else { break };
        seconds += digits(part).filter(|value| *value < 60)? * unit;
    }
    let valid = parts.len() <= 3 && seconds < 16 * 3600;
    let offset = i32::try_from(sign * seconds).ok()?;
    valid.then_some(Some(ParsedZone::Offset(offset)))
}

fn digits(text: &str) -> Option<i64> {
    let valid = !text.is_empty() && text.len() <= 7 && text.bytes().all(|b| b.is_ascii_digit());
    if valid { text.parse().ok() } else { None }
}
