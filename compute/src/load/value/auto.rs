//! What DATEFORMAT and TIMEFORMAT `'auto'` recognise: the forms that the documentation lists, each
//! tried by how the text begins. A form that could be read in two ways is not guessed at: it is a
//! fault.

use super::super::error::Fault;
use super::datetime::{
    Civil, Cursor, Zone, clock_micros, full_year, hour_of_day, invalid_date, invalid_timestamp,
};

/// Julian day of 1970-01-01.
const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;

/// Days since 1970-01-01; a time after the date is ignored.
pub(in super::super) fn date(field: &[u8]) -> Result<i32, Fault> {
    parse(field).and_then(|civil| civil.days()).ok_or_else(|| invalid_date("auto"))
}

/// Microseconds since 1970-01-01.
pub(in super::super) fn timestamp(field: &[u8], zone: Zone) -> Result<i64, Fault> {
    parse(field).and_then(|civil| zone.micros(&civil)).ok_or_else(|| invalid_timestamp("auto"))
}

/// How the years of a text count, which its end tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    Common,
    BeforeChrist,
}

fn parse(field: &[u8]) -> Option<Civil> {
    let (field, era) = split_era(field);
    let mut cursor = Cursor::new(field);
    let julian_day = matches!(field, [b'J' | b'j', digit, ..] if digit.is_ascii_digit());
    let mut civil = if julian_day {
        julian(&mut cursor)?
    } else if cursor.peek().is_ascii_alphabetic() {
        month_first(&mut cursor, era)?
    } else {
        digits_first(&mut cursor, era)?
    };
    clock(&mut cursor, &mut civil)?;
    if era == Era::BeforeChrist {
        // 1 BC is the year 0 of the calendar that counts through.
        civil.year = 1 - civil.year;
    }
    cursor.at_end().then_some(civil)
}

/// ` BC` or ` AD` at the end.
fn split_era(field: &[u8]) -> (&[u8], Era) {
    match field {
        [rest @ .., b' ', b'B' | b'b', b'C' | b'c'] => (rest, Era::BeforeChrist),
        [rest @ .., b' ', b'A' | b'a', b'D' | b'd'] => (rest, Era::Common),
        _ => (field, Era::Common),
    }
}

/// `J2451187`
fn julian(cursor: &mut Cursor<'_>) -> Option<Civil> {
    cursor.advance(1);
    let day = i64::from(cursor.number(1, 8)?);
    Some(from_days(day - JULIAN_DAY_OF_EPOCH))
}

/// `Jan-08-1995`, `Jan 8, 1995`, `Jan-08-95`.
fn month_first(cursor: &mut Cursor<'_>, era: Era) -> Option<Civil> {
    let month = cursor.month_name()?;
    separator(cursor)?;
    let day = cursor.number(1, 2)?;
    let _ = cursor.literal(b',');
    separator(cursor)?;
    let year = year(cursor, era)?;
    Some(Civil::midnight(year, month, day))
}

fn digits_first(cursor: &mut Cursor<'_>, era: Era) -> Option<Civil> {
    let ahead = cursor.digits_ahead();
    let after = cursor.rest().get(ahead).copied().unwrap_or(0);
    match (ahead, after) {
        (8, _) => compact(cursor, true),
        (6, b' ' | b'T' | 0) => compact(cursor, false),
        (4, b'.') => year_and_day(cursor),
        (4, separator) => {
            let year = cursor.number(4, 4)? as i32;
            cursor.literal(separator).filter(|()| matches!(separator, b'-' | b'/' | b' '))?;
            let month = match cursor.digits_ahead() {
                0 => cursor.month_name()?,
                _ => cursor.number(1, 2)?,
            };
            cursor.literal(separator)?;
            Some(Civil::midnight(year, month, cursor.number(1, 2)?))
        }
        (1 | 2, b'/') => numeric(cursor, b'/', true, era),
        (1 | 2, b'.') => numeric(cursor, b'.', false, era),
        (1 | 2, b' ' | b'-') => day_first(cursor, after, era),
        _ => None,
    }
}

/// `YYYYMMDD` or `YYMMDD`.
fn compact(cursor: &mut Cursor<'_>, long: bool) -> Option<Civil> {
    let year = if long { cursor.number(4, 4)? as i32 } else { full_year(cursor.number(2, 2)?) };
    Some(Civil::midnight(year, cursor.number(2, 2)?, cursor.number(2, 2)?))
}

/// `YYYY.DDD`, the day of the year.
fn year_and_day(cursor: &mut Cursor<'_>) -> Option<Civil> {
    let year = cursor.number(4, 4)? as i32;
    cursor.literal(b'.')?;
    if cursor.digits_ahead() != 3 {
        let month = cursor.number(1, 2)?;
        cursor.literal(b'.')?;
        return Some(Civil::midnight(year, month, cursor.number(1, 2)?));
    }
    let day = cursor.number(3, 3)?;
    let first = i64::from(Civil::midnight(year, 1, 1).days()?);
    let civil = from_days(first + i64::from(day) - 1);
    (day >= 1 && civil.year == year).then_some(civil)
}

/// `MM/DD/YYYY` or `DD.MM.YYYY`.
fn numeric(cursor: &mut Cursor<'_>, separator: u8, month_first: bool, era: Era) -> Option<Civil> {
    let first = cursor.number(1, 2)?;
    cursor.literal(separator)?;
    let second = cursor.number(1, 2)?;
    cursor.literal(separator)?;
    let year = year(cursor, era)?;
    let (month, day) = if month_first { (first, second) } else { (second, first) };
    Some(Civil::midnight(year, month, day))
}

/// `DD Mon YYYY`, `DD-Mon-YYYY`, `DD Mon HH:MI:SS YYYY TZ`.
fn day_first(cursor: &mut Cursor<'_>, separator: u8, era: Era) -> Option<Civil> {
    let day = cursor.number(1, 2)?;
    cursor.literal(separator)?;
    let month = cursor.month_name()?;
    cursor.literal(separator)?;
    let ahead = cursor.digits_ahead();
    if cursor.rest().get(ahead) == Some(&b':') {
        let micros = cursor.clock()?;
        cursor.literal(b' ')?;
        let mut civil = Civil::midnight(year(cursor, era)?, month, day);
        civil.micros = micros;
        civil.offset = cursor.offset_if_any()?;
        return Some(civil);
    }
    Some(Civil::midnight(year(cursor, era)?, month, day))
}

/// A time after the date, if there is one: `[T| ]HH:MI[:SS[.f]] [AM|PM] [offset]` or `HHMISS`.
fn clock(cursor: &mut Cursor<'_>, civil: &mut Civil) -> Option<()> {
    if cursor.at_end() {
        return Some(());
    }
    if cursor.literal(b'T').is_none() {
        cursor.literal(b' ')?;
        cursor.skip_blanks();
    }
    let ahead = cursor.digits_ahead();
    if ahead == 6 || ahead == 4 {
        let (hour, minute) = (cursor.number(2, 2)?, cursor.number(2, 2)?);
        let second = if ahead == 6 { cursor.number(2, 2)? } else { 0 };
        civil.micros = clock_micros(hour, minute, second, 0)?;
    } else {
        let micros = cursor.clock()?;
        civil.micros = micros;
        if cursor
            .rest()
            .iter()
            .find(|byte| **byte != b' ')
            .is_some_and(|byte| matches!(byte, b'A' | b'P' | b'a' | b'p'))
        {
            cursor.skip_blanks();
            let afternoon = cursor.half_day()?;
            let hour = u32::try_from(micros / 3_600_000_000).ok()?;
            let shifted = i64::from(hour_of_day(hour, afternoon)?);
            civil.micros = shifted * 3_600_000_000 + micros % 3_600_000_000;
        }
    }
    civil.offset = cursor.offset_if_any()?;
    Some(())
}

fn separator(cursor: &mut Cursor<'_>) -> Option<()> {
    match cursor.peek() {
        b'-' | b' ' | b'/' => cursor.advance(1),
        _ => return None,
    }
    Some(())
}

/// Four digits, or two, which before Christ are meant as they stand.
fn year(cursor: &mut Cursor<'_>, era: Era) -> Option<i32> {
    match (cursor.digits_ahead(), era) {
        (4..=6, _) => cursor.number(4, 6).map(|year| year as i32),
        (2, Era::Common) => cursor.number(2, 2).map(full_year),
        (1..=3, Era::BeforeChrist) => cursor.number(1, 3).map(|year| year as i32),
        _ => None,
    }
}

/// The inverse of [`Civil::days`], from the same source as `days_from_civil`.
fn from_days(days: i64) -> Civil {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil::midnight(year as i32, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::value::datetime::{iso_date, iso_timestamp};

    #[test]
    fn documented_forms() {
        let expected = |text: &str| iso_timestamp(text.as_bytes(), Zone::With).unwrap();
        for (text, same) in [
            ("2019-02-11T05:09:12.195Z", "2019-02-11 05:09:12.195"),
            ("2019-02-11 05:09:12", "2019-02-11 05:09:12"),
            ("J2451187", "1999-01-08 00:00:00"),
            ("19960108 040809", "1996-01-08 04:08:09"),
            ("960108 040809", "1996-01-08 04:08:09"),
            ("1996.008", "1996-01-08 00:00:00"),
            ("1996-01-08 04:05:06.789", "1996-01-08 04:05:06.789"),
            ("17 Dec 07:37:16 1997 UTC", "1997-12-17 07:37:16"),
            ("12/17/1997 07:37:16.00 UTC", "1997-12-17 07:37:16"),
            ("1997-12-17 07:37:16-08", "1997-12-17 15:37:16"),
            ("17.12.1997 07:37:16.00 UTC", "1997-12-17 07:37:16"),
            ("17-Dec-1997", "1997-12-17 00:00:00"),
            ("Dec 17, 1997 1:02 PM", "1997-12-17 13:02:00"),
            ("1/8/1999", "1999-01-08 00:00:00"),
        ] {
            let found = timestamp(text.as_bytes(), Zone::With);
            assert_eq!(found.ok(), Some(expected(same)), "{text}");
        }
        assert_eq!(date(b"Jan-08-1995 AD"), iso_date(b"1995-01-08"));
        let before_christ = date(b"Jan-08-95 BC").unwrap();
        assert_eq!(before_christ, Civil::midnight(-94, 1, 8).days().unwrap());
    }

    #[test]
    fn nothing_else_is_guessed() {
        for text in [
            "",
            "x",
            "J",
            "1549861752",
            "2019-02-30",
            "13/13/2019",
            "2019-1",
            "1996.367",
            "12-17-1997 x",
            "99",
            "2019-02-11 05",
            "2019-02-11 13:00 PM",
        ] {
            assert!(timestamp(text.as_bytes(), Zone::Without).is_err(), "{text}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-2_400_000..3_000_000).step_by(97) {
            let civil = from_days(days);
            assert_eq!(civil.days().map(i64::from), Some(days));
        }
    }
}
