//! Dates, times and timestamps from text: the ISO forms that COPY takes by default, and the
//! patterns of DATEFORMAT and TIMEFORMAT. What `'auto'` takes beyond them is in `auto.rs`.

use super::super::error::{ErrorCode, Fault};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;
const NANOS_PER_DAY: i64 = MICROS_PER_DAY * 1000;
/// Redshift's dates go from 4713 BC to 294276 AD.
const YEAR_MIN: i32 = -4712;
const YEAR_MAX: i32 = 294_276;
/// Offsets from UTC go up to 15:59 in Postgres.
const OFFSET_HOURS_MAX: u32 = 15;
const PATTERN_PARTS_MAX: usize = 64;

/// A point in time by its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Civil {
    pub(super) year: i32,
    pub(super) month: u32,
    pub(super) day: u32,
    pub(super) micros: i64,
    /// Seconds east of UTC, if the text says so.
    pub(super) offset: Option<i32>,
}

impl Civil {
    pub(super) fn midnight(year: i32, month: u32, day: u32) -> Self {
        Self { year, month, day, micros: 0, offset: None }
    }

    /// Days since 1970-01-01, if there is such a day.
    pub(super) fn days(&self) -> Option<i32> {
        let Self { year, month, day, .. } = *self;
        let known = (YEAR_MIN..=YEAR_MAX).contains(&year) && (1..=12).contains(&month);
        if !known || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        Some(days_from_civil(year, month, day))
    }

    /// Microseconds since 1970-01-01, of the clock on the wall.
    fn local_micros(&self) -> Option<i64> {
        i64::from(self.days()?).checked_mul(MICROS_PER_DAY)?.checked_add(self.micros)
    }

    /// Microseconds since 1970-01-01 UTC; text without an offset is UTC.
    fn utc_micros(&self) -> Option<i64> {
        let offset = i64::from(self.offset.unwrap_or(0)) * MICROS_PER_SECOND;
        self.local_micros()?.checked_sub(offset)
    }
}

/// Which of the two timestamp types is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Zone {
    /// TIMESTAMP: the clock on the wall; an offset in the text is ignored.
    Without,
    /// TIMESTAMPTZ: UTC.
    With,
}

impl Zone {
    pub(super) fn micros(self, civil: &Civil) -> Option<i64> {
        match self {
            Self::Without => civil.local_micros(),
            Self::With => civil.utc_micros(),
        }
    }
}

/// `YYYY-MM-DD`; a time after it is ignored. Days since 1970-01-01.
pub(in super::super) fn iso_date(field: &[u8]) -> Result<i32, Fault> {
    let civil = match field {
        // The common form, without the general cursor.
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] => fixed(&[*y0, *y1, *y2, *y3])
            .zip(fixed(&[*m0, *m1]))
            .zip(fixed(&[*d0, *d1]))
            .map(|((year, month), day)| Civil::midnight(year as i32, month, day)),
        _ => {
            let mut cursor = Cursor::new(field);
            cursor.iso_date().filter(|_| cursor.at_end() || matches!(cursor.peek(), b' ' | b'T'))
        }
    };
    civil.and_then(|civil| civil.days()).ok_or_else(|| invalid_date("YYYY-MM-DD"))
}

/// `YYYY-MM-DD HH:MI:SS[.ffffff]`, the time optional, in TIMESTAMPTZ an offset at the end.
/// Microseconds.
pub(in super::super) fn iso_timestamp(field: &[u8], zone: Zone) -> Result<i64, Fault> {
    let parse = || {
        let mut cursor = Cursor::new(field);
        let mut civil = cursor.iso_date()?;
        if !cursor.at_end() {
            cursor.literal(b' ')?;
            civil.micros = cursor.clock()?;
            if zone == Zone::With {
                civil.offset = cursor.offset_if_any()?;
            }
        }
        cursor.at_end().then_some(civil)
    };
    let format = match zone {
        Zone::Without => "YYYY-MM-DD HH24:MI:SS",
        Zone::With => "YYYY-MM-DD HH24:MI:SSOF",
    };
    parse().and_then(|civil| zone.micros(&civil)).ok_or_else(|| invalid_timestamp(format))
}

/// `HH:MI[:SS[.ffffff]]`. Microseconds since midnight.
pub(in super::super) fn time(field: &[u8]) -> Result<i64, Fault> {
    let mut cursor = Cursor::new(field);
    let micros = cursor.clock().filter(|_| cursor.at_end());
    micros.ok_or_else(|| invalid_timestamp("HH24:MI:SS"))
}

/// `HH:MI[:SS[.ffffff]][offset]`. Nanoseconds since midnight UTC.
pub(in super::super) fn time_with_zone(field: &[u8]) -> Result<i64, Fault> {
    let parse = || {
        let mut cursor = Cursor::new(field);
        let micros = cursor.clock()?;
        let offset = i64::from(cursor.offset_if_any()?.unwrap_or(0));
        let nanos = (micros - offset * MICROS_PER_SECOND) * 1000;
        // 24:00 stays what it is; only a shift by the offset wraps around.
        let wrapped = if offset == 0 { nanos } else { nanos.rem_euclid(NANOS_PER_DAY) };
        cursor.at_end().then_some(wrapped)
    };
    parse().ok_or_else(|| invalid_timestamp("HH24:MI:SSOF"))
}

/// Seconds (`units_per_second` 1) or milliseconds (1000) since 1970-01-01 UTC, with a fraction at
/// will. Microseconds.
pub(in super::super) fn epoch(field: &[u8], units_per_second: i64) -> Result<i64, Fault> {
    let label = if units_per_second == 1 { "epochsecs" } else { "epochmillisecs" };
    let scale = if units_per_second == 1 { 6 } else { 3 };
    let parsed = super::number::decimal(field, 38, scale, false).ok();
    let micros = parsed.and_then(|micros| i64::try_from(micros).ok());
    // The last microsecond that 64 bits count to is in the year 294247, before YEAR_MAX.
    let first = i64::from(days_from_civil(YEAR_MIN, 1, 1)) * MICROS_PER_DAY;
    micros.filter(|micros| *micros >= first).ok_or_else(|| invalid_timestamp(label))
}

/// A compiled DATEFORMAT: `YY YYYY MM MON DD` and literal characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatePattern {
    text: String,
    parts: Vec<Part>,
}

impl DatePattern {
    /// None if the pattern has no year, month and day, has one twice, or has parts of a time.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = parse_parts(text)?;
        let clock = parts.iter().any(|part| {
            matches!(
                part,
                Part::Hour24 | Part::Hour12 | Part::Minute | Part::Second | Part::HalfDay
            )
        });
        (has_day(&parts) && !clock).then(|| Self { text: text.to_owned(), parts })
    }

    /// The pattern as it was written.
    pub(in super::super) fn text(&self) -> &str {
        &self.text
    }

    pub(in super::super) fn days(&self, field: &[u8]) -> Result<i32, Fault> {
        let mut cursor = Cursor::new(field);
        let civil = cursor.parts(&self.parts);
        // A time after the date is ignored.
        let ended = cursor.at_end() || matches!(cursor.peek(), b' ' | b'T');
        civil
            .filter(|_| ended)
            .and_then(|civil| civil.days())
            .ok_or_else(|| invalid_date(&self.text))
    }
}

/// A compiled TIMEFORMAT: the parts of a date and `HH HH24 HH12 MI SS AM PM OF`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimestampPattern {
    text: String,
    parts: Vec<Part>,
}

impl TimestampPattern {
    /// None if the pattern has no year, month and day, or has a part twice.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = parse_parts(text)?;
        has_day(&parts).then(|| Self { text: text.to_owned(), parts })
    }

    /// The pattern as it was written.
    pub(in super::super) fn text(&self) -> &str {
        &self.text
    }

    pub(in super::super) fn micros(&self, field: &[u8], zone: Zone) -> Result<i64, Fault> {
        let mut cursor = Cursor::new(field);
        let civil = cursor.parts(&self.parts).filter(|_| cursor.at_end());
        civil.and_then(|civil| zone.micros(&civil)).ok_or_else(|| invalid_timestamp(&self.text))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    Hour24,
    Hour12,
    Minute,
    Second,
    HalfDay,
    Offset,
    Literal(u8),
}

/// The names of parts, longer ones before their beginnings.
const PART_NAMES: [(&str, Part); 13] = [
    ("YYYY", Part::Year),
    ("YY", Part::ShortYear),
    ("MON", Part::MonthName),
    ("MM", Part::Month),
    ("MI", Part::Minute),
    ("DD", Part::Day),
    ("HH24", Part::Hour24),
    ("HH12", Part::Hour12),
    ("HH", Part::Hour24),
    ("SS", Part::Second),
    ("AM", Part::HalfDay),
    ("PM", Part::HalfDay),
    ("OF", Part::Offset),
];

fn parse_parts(text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.as_bytes().first() {
        let named = PART_NAMES.iter().find(|(name, _)| rest.starts_with(name));
        let (part, length) = match named {
            Some((name, part)) => (*part, name.len()),
            None if first.is_ascii() => (Part::Literal(*first), 1),
            None => return None,
        };
        if named.is_some() && parts.contains(&part) {
            return None;
        }
        parts.push(part);
        rest = &rest[length..];
    }
    let same = |one, other| parts.contains(&one) && parts.contains(&other);
    let twice = same(Part::Year, Part::ShortYear)
        || same(Part::Month, Part::MonthName)
        || same(Part::Hour12, Part::Hour24);
    (parts.len() <= PATTERN_PARTS_MAX && !twice).then_some(parts)
}

fn has_day(parts: &[Part]) -> bool {
    let any = |one: Part, other: Part| parts.contains(&one) || parts.contains(&other);
    any(Part::Year, Part::ShortYear)
        && any(Part::Month, Part::MonthName)
        && parts.contains(&Part::Day)
}

/// A place in a field. Every method moves it on, or answers None and leaves it anywhere.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The next byte, 0 at the end.
    pub(super) fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at.min(self.bytes.len())..]
    }

    pub(super) fn advance(&mut self, count: usize) {
        self.at = (self.at + count).min(self.bytes.len());
    }

    pub(super) fn literal(&mut self, byte: u8) -> Option<()> {
        (self.peek() == byte && !self.at_end()).then(|| self.at += 1)
    }

    pub(super) fn skip_blanks(&mut self) {
        while self.peek() == b' ' {
            self.at += 1;
        }
    }

    /// A number of `least` to `most` digits.
    pub(super) fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let digits = self.rest().iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
        if digits < least {
            return None;
        }
        let value = fixed(&self.rest()[..digits])?;
        self.at += digits;
        Some(value)
    }

    /// How many digits follow.
    pub(super) fn digits_ahead(&self) -> usize {
        self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count()
    }

    pub(super) fn iso_date(&mut self) -> Option<Civil> {
        let year = self.number(4, 6)?;
        self.literal(b'-')?;
        let month = self.number(1, 2)?;
        self.literal(b'-')?;
        let day = self.number(1, 2)?;
        Some(Civil::midnight(year as i32, month, day))
    }

    /// `HH:MI[:SS[.f]]` to microseconds; 24:00:00 is the end of the day.
    pub(super) fn clock(&mut self) -> Option<i64> {
        let hour = self.number(1, 2)?;
        self.literal(b':')?;
        let minute = self.number(2, 2)?;
        let (mut second, mut micros) = (0, 0);
        if self.literal(b':').is_some() {
            (second, micros) = self.seconds()?;
        }
        clock_micros(hour, minute, second, micros)
    }

    /// `SS[.f]`: seconds and microseconds. Digits beyond the microsecond are rounded, as Postgres
    /// does it.
    fn seconds(&mut self) -> Option<(u32, u32)> {
        let second = self.number(2, 2)?;
        let mut micros = 0;
        if self.literal(b'.').is_some() {
            let digits = self.digits_ahead();
            for place in 0..6 {
                let digit = if place < digits { self.rest()[place] - b'0' } else { 0 };
                micros = micros * 10 + u32::from(digit);
            }
            if digits > 6 && self.rest()[6] >= b'5' {
                micros += 1;
            }
            self.advance(digits);
        }
        Some((second, micros))
    }

    /// `Z`, `UTC`, `GMT`, `+-HH`, `+-HHMI`, `+-HH:MI`, after blanks: seconds east of UTC. The outer
    /// None is an error, the inner one the absence of an offset.
    pub(super) fn offset_if_any(&mut self) -> Option<Option<i32>> {
        self.skip_blanks();
        if self.at_end() {
            return Some(None);
        }
        let sign = match self.peek() {
            b'+' => 1,
            b'-' => -1,
            _ => {
                let names: [&[u8]; 4] = [b"UTC", b"GMT", b"UT", b"Z"];
                let name = names.into_iter().find(|name| {
                    self.rest()
                        .get(..name.len())
                        .is_some_and(|text| text.eq_ignore_ascii_case(name))
                })?;
                self.advance(name.len());
                return Some(Some(0));
            }
        };
        self.at += 1;
        let hours = self.number(1, 2)?;
        let minutes = if self.literal(b':').is_some() || self.digits_ahead() >= 2 {
            self.number(2, 2)?
        } else {
            0
        };
        if hours > OFFSET_HOURS_MAX || minutes > 59 {
            return None;
        }
        Some(Some(sign * (hours * 3600 + minutes * 60) as i32))
    }

    /// A month by its English name or the first three letters of it.
    pub(super) fn month_name(&mut self) -> Option<u32> {
        let letters = self.rest().iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = &self.rest()[..letters];
        let matches = |name: &&str| {
            word.eq_ignore_ascii_case(name.as_bytes())
                || word.eq_ignore_ascii_case(&name.as_bytes()[..3])
        };
        let index = MONTHS.iter().position(matches)?;
        self.advance(letters);
        Some(index as u32 + 1)
    }

    fn parts(&mut self, parts: &[Part]) -> Option<Civil> {
        let mut civil = Civil::midnight(0, 0, 0);
        let (mut hour, mut minute, mut second, mut micros) = (0, 0, 0, 0);
        let mut afternoon = None;
        for (index, part) in parts.iter().enumerate() {
            // A number may be shorter than its part when something ends it.
            let ended = !matches!(
                parts.get(index + 1),
                Some(part) if !matches!(part, Part::Literal(_))
            );
            let least = if ended { 1 } else { 2 };
            match part {
                Part::Year => civil.year = self.number(4, 4)? as i32,
                Part::ShortYear => civil.year = full_year(self.number(2, 2)?),
                Part::Month => civil.month = self.number(least, 2)?,
                Part::MonthName => civil.month = self.month_name()?,
                Part::Day => civil.day = self.number(least, 2)?,
                Part::Hour24 => hour = self.number(least, 2)?,
                Part::Hour12 => {
                    hour = self.number(least, 2).filter(|hour| (1..=12).contains(hour))?;
                    afternoon.get_or_insert(false);
                }
                Part::Minute => minute = self.number(least, 2)?,
                Part::Second => (second, micros) = self.seconds()?,
                Part::HalfDay => afternoon = Some(self.half_day()?),
                Part::Offset => civil.offset = self.offset_if_any()?,
                Part::Literal(byte) => self.literal(*byte)?,
            }
        }
        if let Some(afternoon) = afternoon {
            hour = hour_of_day(hour, afternoon)?;
        }
        civil.micros = clock_micros(hour, minute, second, micros)?;
        Some(civil)
    }

    /// AM or PM; true for PM.
    pub(super) fn half_day(&mut self) -> Option<bool> {
        let word = self.rest().get(..2)?;
        let afternoon = if word.eq_ignore_ascii_case(b"PM") {
            true
        } else if word.eq_ignore_ascii_case(b"AM") {
            false
        } else {
            return None;
        };
        self.advance(2);
        Some(afternoon)
    }
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The hour of the day of an hour of the 12-hour clock.
pub(super) fn hour_of_day(hour: u32, afternoon: bool) -> Option<u32> {
    (1..=12).contains(&hour).then(|| hour % 12 + if afternoon { 12 } else { 0 })
}

/// Two-digit years are 1970 to 2069, as in Postgres.
pub(super) fn full_year(short: u32) -> i32 {
    if short < 70 { 2000 + short as i32 } else { 1900 + short as i32 }
}

pub(super) fn clock_micros(hour: u32, minute: u32, second: u32, micros: u32) -> Option<i64> {
    let of_day =
        i64::from(hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + i64::from(micros);
    // A leap second is read as the next minute, as in Postgres.
    let known = hour <= 24 && minute <= 59 && second <= 60 && of_day <= MICROS_PER_DAY;
    known.then_some(of_day)
}

pub(super) fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the Gregorian calendar: years from March on, in eras of 400 years
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
pub(super) fn days_from_civil(year: i32, month: u32, day: u32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month as i32 + 9) % 12) + 2) / 5 + day as i32 - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// A number of fixed digits; at most 9.
fn fixed(digits: &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u32::from(digit);
    }
    Some(value)
}

pub(super) fn invalid_date(format: &str) -> Fault {
    Fault::new(ErrorCode::Date, format!("Invalid Date Format or value [{format}]"))
}

pub(super) fn invalid_timestamp(format: &str) -> Fault {
    let reason = format!("Invalid timestamp format or value [{format}]");
    Fault::new(ErrorCode::Timestamp, reason)
}

#[cfg(test)]
#[path = "datetime_tests.rs"]
mod tests;
