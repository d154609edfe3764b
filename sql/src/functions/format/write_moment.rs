//! TO_CHAR of dates and times.

use chrono::{Datelike, NaiveDateTime, Timelike};

use super::template::{Case, Field, Key, Piece};

/// Full names of the months.
pub(super) const MONTHS: [&str; 12] = [
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
/// Full names of the days, Sunday first.
pub(super) const DAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
/// Roman numbers of the months.
pub(super) const ROMAN_MONTHS: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
/// The Julian day before 0001-01-01.
pub(super) const JULIAN_OF_DAY_ZERO: i64 = 1_721_425;

/// The zone of a moment.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    /// Its abbreviation at the moment.
    pub(super) abbreviation: String,
    /// East of UTC.
    pub(super) offset_seconds: i32,
}

/// Writes a moment by a template; a moment without a zone shows none.
pub(super) fn write(pieces: &[Piece], moment: NaiveDateTime, zone: Option<&Zone>) -> String {
    let mut out = String::new();
    for piece in pieces {
        match piece {
            Piece::Plain(character) => out.push(*character),
            Piece::Field(field) => match name(field, moment) {
                Some(text) => out.push_str(&text),
                None => out.push_str(&number_or_zone(field, moment, zone)),
            },
        }
    }
    out
}

/// The fields of letters.
fn name(field: &Field, moment: NaiveDateTime) -> Option<String> {
    let month = moment.month0() as usize;
    let day = moment.weekday().num_days_from_sunday() as usize;
    let is_pm = moment.hour() >= 12;
    let is_bc = moment.year() <= 0;
    let (text, width) = match field.key {
        Key::MonthName => (MONTHS[month], 9),
        Key::MonthShort => (&MONTHS[month][..3], 0),
        Key::RomanMonth => (ROMAN_MONTHS[month], 4),
        Key::DayName => (DAYS[day], 9),
        Key::DayShort => (&DAYS[day][..3], 0),
        Key::Meridiem => (if is_pm { "PM" } else { "AM" }, 0),
        Key::MeridiemDotted => (if is_pm { "P.M." } else { "A.M." }, 0),
        Key::Era => (if is_bc { "BC" } else { "AD" }, 0),
        Key::EraDotted => (if is_bc { "B.C." } else { "A.D." }, 0),
        _ => return None,
    };
    let is_word =
        matches!(field.key, Key::MonthName | Key::MonthShort | Key::DayName | Key::DayShort);
    let cased = match field.case {
        Case::Upper => text.to_uppercase(),
        Case::Capitalized if is_word => text.to_owned(),
        Case::Capitalized => text.to_uppercase(),
        Case::Lower => text.to_lowercase(),
    };
    let width = if field.fill { 0 } else { width };
    Some(format!("{cased:<width$}"))
}

fn number_or_zone(field: &Field, moment: NaiveDateTime, zone: Option<&Zone>) -> String {
    match field.key {
        Key::Zone => match (zone, field.case) {
            (None, _) => String::new(),
            (Some(zone), Case::Lower) => zone.abbreviation.to_lowercase(),
            (Some(zone), _) => zone.abbreviation.to_uppercase(),
        },
        Key::Offset => zone.map_or_else(String::new, |zone| offset(zone.offset_seconds)),
        Key::YearWithComma => {
            let year = shown_year(moment.year());
            with_ordinal(format!("{},{:03}", year / 1000, year % 1000), field)
        }
        key => {
            let (value, width) = number(key, moment);
            let sign = usize::from(value < 0);
            let width = if field.fill { 0 } else { width + sign };
            with_ordinal(format!("{value:0width$}"), field)
        }
    }
}

/// Hours, and minutes if there are any.
fn offset(seconds: i32) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    match (minutes / 60, minutes % 60) {
        (hours, 0) => format!("{sign}{hours:02}"),
        (hours, minutes) => format!("{sign}{hours:02}:{minutes:02}"),
    }
}

/// Year 0 is 1 BC.
fn shown_year(year: i32) -> i64 {
    i64::from(if year <= 0 { 1 - year } else { year })
}

/// A number and how many digits it has at least.
fn number(key: Key, moment: NaiveDateTime) -> (i64, usize) {
    let year = shown_year(moment.year());
    let iso = moment.iso_week();
    let iso_year = shown_year(iso.year());
    let hour = moment.hour();
    let end = |year: i64, digits: u8| (year % 10_i64.pow(digits.into()), usize::from(digits));
    let small = |value: u32, width: usize| (i64::from(value), width);
    match key {
        Key::Year => (year, 4),
        Key::YearEnd(digits) => end(year, digits),
        Key::IsoYear => (iso_year, 4),
        Key::IsoYearEnd(digits) => end(iso_year, digits),
        Key::Century => (century(moment.year()), 2),
        Key::Quarter => small(moment.month0() / 3 + 1, 1),
        Key::Month => small(moment.month(), 2),
        Key::Week => small(moment.ordinal0() / 7 + 1, 2),
        Key::WeekOfMonth => small(moment.day0() / 7 + 1, 1),
        Key::IsoWeek => small(iso.week(), 2),
        Key::DayOfYear => small(moment.ordinal(), 3),
        Key::IsoDayOfYear => small((iso.week() - 1) * 7 + moment.weekday().number_from_monday(), 3),
        Key::Day => small(moment.day(), 2),
        Key::DayOfWeek => small(moment.weekday().number_from_sunday(), 1),
        Key::IsoDayOfWeek => small(moment.weekday().number_from_monday(), 1),
        Key::Julian => (i64::from(moment.date().num_days_from_ce()) + JULIAN_OF_DAY_ZERO, 0),
        Key::Hour => small(hour, 2),
        Key::Hour12 => small(if hour.is_multiple_of(12) { 12 } else { hour % 12 }, 2),
        Key::Minute => small(moment.minute(), 2),
        Key::Second => small(moment.second(), 2),
        Key::Millisecond => small(moment.nanosecond() / 1_000_000, 3),
        Key::Microsecond => small(moment.nanosecond() / 1_000, 6),
        Key::SecondOfDay => small(moment.num_seconds_from_midnight(), 0),
        _ => (0, 0),
    }
}

/// The years 1 to 100 are the first century, the years 100 to 1 BC the one before.
fn century(year: i32) -> i64 {
    let year = i64::from(year);
    if year > 0 { (year - 1) / 100 + 1 } else { -((-year) / 100 + 1) }
}

fn with_ordinal(mut digits: String, field: &Field) -> String {
    let Some(case) = field.ordinal else { return digits };
    let suffix = super::number::ordinal_suffix(&digits);
    digits.push_str(&if case == Case::Upper { suffix.to_uppercase() } else { suffix.to_owned() });
    digits
}
