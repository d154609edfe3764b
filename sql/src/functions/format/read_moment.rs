//! TO_DATE and TO_TIMESTAMP: a text read by a template, with the leniency of Postgres: blanks and
//! separators between fields need not match.

use chrono::{Datelike, Duration, NaiveDate, NaiveDateTime, NaiveTime};
use datafusion::common::{DataFusionError, Result};

use super::template::{Field, Key, Piece};
use super::write_moment::{DAYS, JULIAN_OF_DAY_ZERO, MONTHS, ROMAN_MONTHS};
use crate::error::raise;

/// What happens to a day or time that no calendar has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strictness {
    /// June 31 is July 1.
    Lenient,
    /// June 31 is an error.
    Strict,
}

/// The fields that a text had.
#[derive(Debug, Default)]
struct Found {
    year: Option<i64>,
    iso_year: Option<i64>,
    century: Option<i64>,
    month: Option<i64>,
    day: Option<i64>,
    day_of_year: Option<i64>,
    week: Option<i64>,
    week_of_month: Option<i64>,
    iso_week: Option<i64>,
    iso_weekday: Option<i64>,
    julian: Option<i64>,
    hour: Option<i64>,
    hour12: Option<i64>,
    minute: Option<i64>,
    second: Option<i64>,
    second_of_day: Option<i64>,
    microseconds: i64,
    is_pm: bool,
    is_bc: bool,
}

fn out_of_range(text: &str) -> DataFusionError {
    raise("22008", format!("date/time field value out of range: \"{text}\""))
}

/// Reads `text` by a template.
pub(super) fn read(pieces: &[Piece], text: &str, strictness: Strictness) -> Result<NaiveDateTime> {
    let mut found = Found::default();
    let mut rest = text;
    for (index, piece) in pieces.iter().enumerate() {
        match piece {
            Piece::Plain(character) if is_separator(*character) => {
                rest = rest.trim_start_matches(is_separator_of_input);
            }
            Piece::Plain(_) => rest = rest.get(1..).unwrap_or(""),
            Piece::Field(field) => {
                rest = rest.trim_start();
                let unlimited = field.fill || ends_at_separator(pieces.get(index + 1));
                rest = found.take(field, rest, unlimited)?;
            }
        }
    }
    found.moment(text, strictness)
}

fn is_separator(character: char) -> bool {
    character.is_ascii_punctuation() || character.is_whitespace()
}

/// A sign may begin a number, so that it is left.
fn is_separator_of_input(character: char) -> bool {
    is_separator(character) && character != '+'
}

fn ends_at_separator(next: Option<&Piece>) -> bool {
    match next {
        None => true,
        Some(Piece::Plain(character)) => !character.is_ascii_digit(),
        Some(Piece::Field(_)) => false,
    }
}

impl Found {
    /// Takes a field from the start of a text and answers with the rest.
    fn take<'a>(&mut self, field: &Field, text: &'a str, unlimited: bool) -> Result<&'a str> {
        match field.key {
            Key::MonthName | Key::MonthShort | Key::RomanMonth => self.take_month(field.key, text),
            Key::DayName => choice(text, &DAYS, usize::MAX).map(|(_, rest)| rest),
            Key::DayShort => choice(text, &DAYS, 3).map(|(_, rest)| rest),
            Key::Meridiem | Key::MeridiemDotted => {
                let names = ["AM", "PM", "A.M.", "P.M."];
                let (index, rest) = choice(text, &names, usize::MAX)?;
                self.is_pm = index % 2 == 1;
                Ok(rest)
            }
            Key::Era | Key::EraDotted => {
                let names = ["AD", "BC", "A.D.", "B.C."];
                let (index, rest) = choice(text, &names, usize::MAX)?;
                self.is_bc = index % 2 == 1;
                Ok(rest)
            }
            Key::Zone | Key::Offset => Err(raise(
                "0A000",
                "formatting fields \"TZ\" and \"OF\" are only supported in to_char",
            )),
            Key::YearWithComma => {
                let (thousands, rest) = digits(text, 4, true, "Y,YYY")?;
                let (ones, rest) = digits(rest.trim_start_matches(','), 3, false, "Y,YYY")?;
                self.year = Some(thousands.value * 1000 + ones.value);
                Ok(rest)
            }
            key => {
                let (name, width) = width_of(key);
                let (number, rest) = digits(text, width, unlimited, name)?;
                self.set(key, number);
                Ok(skip_ordinal(field, rest))
            }
        }
    }

    fn take_month<'a>(&mut self, key: Key, text: &'a str) -> Result<&'a str> {
        let (index, rest) = match key {
            Key::MonthName => choice(text, &MONTHS, usize::MAX)?,
            Key::MonthShort => choice(text, &MONTHS, 3)?,
            _ => {
                // The longest first: VIII before V.
                let mut by_length: Vec<usize> = (0..ROMAN_MONTHS.len()).collect();
                by_length.sort_by_key(|month| std::cmp::Reverse(ROMAN_MONTHS[*month].len()));
                let names: Vec<&str> = by_length.iter().map(|month| ROMAN_MONTHS[*month]).collect();
                let (index, rest) = choice(text, &names, usize::MAX)?;
                (by_length[index], rest)
            }
        };
        self.month = i64::try_from(index + 1).ok();
        Ok(rest)
    }

    fn set(&mut self, key: Key, number: Digits) {
        let value = number.value;
        match key {
            Key::Year => self.year = Some(value),
            Key::YearEnd(_) => self.year = Some(full_year(value, number.count)),
            Key::IsoYear => self.iso_year = Some(value),
            Key::IsoYearEnd(_) => self.iso_year = Some(full_year(value, number.count)),
            Key::Century => self.century = Some(value),
            Key::Month => self.month = Some(value),
            Key::Week => self.week = Some(value),
            Key::WeekOfMonth => self.week_of_month = Some(value),
            Key::IsoWeek => self.iso_week = Some(value),
            Key::DayOfYear => self.day_of_year = Some(value),
            Key::Day => self.day = Some(value),
            Key::IsoDayOfWeek => self.iso_weekday = Some(value),
            Key::Julian => self.julian = Some(value),
            Key::Hour => self.hour = Some(value),
            Key::Hour12 => self.hour12 = Some(value),
            Key::Minute => self.minute = Some(value),
            Key::Second => self.second = Some(value),
            Key::Millisecond => self.microseconds += fraction(number, 3) * 1_000,
            Key::Microsecond => self.microseconds += fraction(number, 6),
            Key::SecondOfDay => self.second_of_day = Some(value),
            // A quarter or a day of the week alone says nothing about the date.
            _ => {}
        }
    }

    fn moment(&self, text: &str, strictness: Strictness) -> Result<NaiveDateTime> {
        let is_wrong = strictness == Strictness::Strict && !self.is_valid();
        if is_wrong {
            return Err(out_of_range(text));
        }
        let date = self.date().ok_or_else(|| out_of_range(text))?;
        let seconds = self.seconds().ok_or_else(|| out_of_range(text))?;
        date.and_time(NaiveTime::MIN)
            .checked_add_signed(Duration::seconds(seconds))
            .and_then(|moment| moment.checked_add_signed(Duration::microseconds(self.microseconds)))
            .ok_or_else(|| out_of_range(text))
    }

    /// Year 0 is 1 BC.
    fn full_year(&self) -> i64 {
        let year = match (self.century, self.year) {
            (Some(century), Some(year)) => (century - 1) * 100 + year % 100,
            (Some(century), None) => (century - 1) * 100 + 1,
            (None, year) => year.unwrap_or(0),
        };
        if self.is_bc && year > 0 { 1 - year } else { year }
    }

    fn date(&self) -> Option<NaiveDate> {
        if let Some(julian) = self.julian {
            let days = i32::try_from(julian - JULIAN_OF_DAY_ZERO).ok()?;
            return NaiveDate::from_num_days_from_ce_opt(days);
        }
        if let Some(week) = self.iso_week {
            let year = i32::try_from(self.iso_year.unwrap_or_else(|| self.full_year())).ok()?;
            let first = NaiveDate::from_isoywd_opt(year, 1, chrono::Weekday::Mon)?;
            let days = (week - 1) * 7 + self.iso_weekday.unwrap_or(1) - 1;
            return first.checked_add_signed(Duration::try_days(days)?);
        }
        let year = i32::try_from(self.full_year()).ok()?;
        let day_of_year = self.day_of_year.or_else(|| self.week.map(|week| (week - 1) * 7 + 1));
        if let (Some(day), None) = (day_of_year, self.month) {
            let first = NaiveDate::from_yo_opt(year, 1)?;
            return first.checked_add_signed(Duration::try_days(day - 1)?);
        }
        let months = i64::from(year) * 12 + self.month.unwrap_or(1) - 1;
        let month = u32::try_from(months.rem_euclid(12)).ok()? + 1;
        let year = i32::try_from(months.div_euclid(12)).ok()?;
        let day =
            self.day.or_else(|| self.week_of_month.map(|week| (week - 1) * 7 + 1)).unwrap_or(1);
        NaiveDate::from_ymd_opt(year, month, 1)?.checked_add_signed(Duration::try_days(day - 1)?)
    }

    fn seconds(&self) -> Option<i64> {
        if let Some(seconds) = self.second_of_day {
            return Some(seconds);
        }
        let hour = match self.hour12 {
            Some(hour) => hour % 12 + if self.is_pm { 12 } else { 0 },
            None => self.hour.unwrap_or(0),
        };
        let minutes = hour.checked_mul(60)?.checked_add(self.minute.unwrap_or(0))?;
        minutes.checked_mul(60)?.checked_add(self.second.unwrap_or(0))
    }

    /// Whether every field is one that a calendar or a clock has.
    fn is_valid(&self) -> bool {
        let within = |value: Option<i64>, low: i64, high: i64| {
            value.is_none_or(|value| (low..=high).contains(&value))
        };
        let clock = within(self.hour, 0, 24)
            && within(self.hour12, 1, 12)
            && within(self.minute, 0, 59)
            && within(self.second, 0, 60)
            && within(self.second_of_day, 0, 86_400);
        let calendar = within(self.month, 1, 12)
            && within(self.day, 1, 31)
            && within(self.day_of_year, 1, 366)
            && within(self.week, 1, 53)
            && within(self.week_of_month, 1, 5)
            && within(self.iso_week, 1, 53)
            && within(self.iso_weekday, 1, 7);
        let has_day = match (self.month, self.day) {
            (Some(month), Some(day)) => {
                self.date().is_some_and(|date| {
                    i64::from(date.month()) == month && i64::from(date.day()) == day
                }) || self.julian.is_some()
            }
            _ => true,
        };
        clock && calendar && has_day
    }
}

/// Digits that were read.
#[derive(Debug, Clone, Copy)]
struct Digits {
    value: i64,
    count: usize,
}

/// Most digits that are read into one field.
const DIGITS_MAX: usize = 10;

fn digits<'a>(
    text: &'a str,
    width: usize,
    unlimited: bool,
    name: &str,
) -> Result<(Digits, &'a str)> {
    let signed = text.strip_prefix(['-', '+']);
    let unsigned = signed.unwrap_or(text);
    let most = if unlimited { DIGITS_MAX } else { width };
    let count = unsigned.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let Ok(magnitude) = unsigned[..count].parse::<i64>() else {
        let shown: String = text.chars().take(width.max(1)).collect();
        return Err(raise("22007", format!("invalid value \"{shown}\" for \"{name}\"")));
    };
    let value = if text.starts_with('-') { -magnitude } else { magnitude };
    Ok((Digits { value, count }, &unsigned[count..]))
}

/// A year of few digits is the one nearest to 2020.
fn full_year(value: i64, count: usize) -> i64 {
    if count >= 4 {
        return value;
    }
    match value {
        0..70 => value + 2000,
        70..100 => value + 1900,
        100..520 => value + 2000,
        520..1000 => value + 1000,
        _ => value,
    }
}

fn fraction(number: Digits, width: usize) -> i64 {
    let missing = u32::try_from(width.saturating_sub(number.count)).unwrap_or(0);
    number.value.saturating_mul(10_i64.saturating_pow(missing)) % 10_i64.pow(6)
}

fn skip_ordinal<'a>(field: &Field, text: &'a str) -> &'a str {
    if field.ordinal.is_some() { text.get(2..).unwrap_or("") } else { text }
}

/// The first name that the text begins with, of which only so many letters count.
fn choice<'a>(text: &'a str, names: &[&str], letters: usize) -> Result<(usize, &'a str)> {
    let begins = |name: &&str| {
        let length = name.len().min(letters);
        text.get(..length).is_some_and(|start| start.eq_ignore_ascii_case(&name[..length]))
    };
    match names.iter().position(begins) {
        Some(index) => Ok((index, &text[names[index].len().min(letters)..])),
        None => {
            let shown: String = text.chars().take(9).collect();
            Err(raise("22007", format!("invalid value \"{shown}\" in a date or time")))
        }
    }
}

fn width_of(key: Key) -> (&'static str, usize) {
    match key {
        Key::Year => ("YYYY", 4),
        Key::YearEnd(3) => ("YYY", 3),
        Key::YearEnd(2) => ("YY", 2),
        Key::YearEnd(_) => ("Y", 1),
        Key::IsoYear => ("IYYY", 4),
        Key::IsoYearEnd(3) => ("IYY", 3),
        Key::IsoYearEnd(2) => ("IY", 2),
        Key::IsoYearEnd(_) => ("I", 1),
        Key::Century => ("CC", 2),
        Key::Quarter => ("Q", 1),
        Key::Month => ("MM", 2),
        Key::Week => ("WW", 2),
        Key::WeekOfMonth => ("W", 1),
        Key::IsoWeek => ("IW", 2),
        Key::DayOfYear => ("DDD", 3),
        Key::IsoDayOfYear => ("IDDD", 3),
        Key::Day => ("DD", 2),
        Key::DayOfWeek => ("D", 1),
        Key::IsoDayOfWeek => ("ID", 1),
        Key::Hour => ("HH24", 2),
        Key::Hour12 => ("HH12", 2),
        Key::Minute => ("MI", 2),
        Key::Second => ("SS", 2),
        Key::Millisecond => ("MS", 3),
        Key::Microsecond => ("US", 6),
        Key::SecondOfDay => ("SSSS", 5),
        _ => ("J", DIGITS_MAX),
    }
}
