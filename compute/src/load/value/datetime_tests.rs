//! Tests of dates and times. Expected values come from chrono or are counted by hand.

use chrono::{DateTime, Datelike, NaiveDate};
use proptest::prelude::*;

use super::*;

fn micros_of(text: &str) -> i64 {
    DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
}

#[test]
fn iso_dates() {
    assert_eq!(iso_date(b"1970-01-01"), Ok(0));
    assert_eq!(iso_date(b"1998-12-01").unwrap(), 10_561);
    assert_eq!(iso_date(b"2024-2-29").unwrap(), iso_date(b"2024-02-29").unwrap());
    assert_eq!(iso_date(b"2019-02-11 05:09:12"), iso_date(b"2019-02-11"));
    for bad in [
        "2023-02-29",
        "2023-13-01",
        "2023-00-01",
        "2023-01-32",
        "20230101",
        "2023-01",
        "x",
        "2023-01-01x",
        "23-01-01",
        "2023/01/01",
    ] {
        assert_eq!(iso_date(bad.as_bytes()).unwrap_err().code, ErrorCode::Date, "{bad}");
    }
}

#[test]
fn iso_timestamps() {
    let plain = |text: &str| iso_timestamp(text.as_bytes(), Zone::Without);
    assert_eq!(plain("2019-02-11 05:09:12"), Ok(micros_of("2019-02-11T05:09:12Z")));
    assert_eq!(plain("2019-02-11 05:09:12.5"), Ok(micros_of("2019-02-11T05:09:12.5Z")));
    assert_eq!(plain("2019-02-11 05:09:12.1234567"), Ok(micros_of("2019-02-11T05:09:12.123457Z")));
    assert_eq!(plain("1969-12-31 23:59:59.999999"), Ok(-1));
    assert_eq!(plain("2019-02-11"), Ok(micros_of("2019-02-11T00:00:00Z")));
    assert_eq!(plain("2019-02-11 24:00:00"), Ok(micros_of("2019-02-12T00:00:00Z")));
    for bad in [
        "2019-02-11T05:09:12",
        "2019-02-11 25:00:00",
        "2019-02-11 05:60:00",
        "2019-02-11 05:09:12+01",
        "2019-02-11 ",
        "2019-02-11 24:00:01",
        "2019-02-30 00:00:00",
    ] {
        let fault = plain(bad).unwrap_err();
        assert_eq!(fault.reason, "Invalid timestamp format or value [YYYY-MM-DD HH24:MI:SS]");
    }
    let zoned = |text: &str| iso_timestamp(text.as_bytes(), Zone::With);
    assert_eq!(zoned("2019-02-11 05:09:12+01"), Ok(micros_of("2019-02-11T04:09:12Z")));
    assert_eq!(zoned("2019-02-11 05:09:12 -05:30"), Ok(micros_of("2019-02-11T10:39:12Z")));
    assert_eq!(zoned("2019-02-11 05:09:12 UTC"), Ok(micros_of("2019-02-11T05:09:12Z")));
    assert_eq!(zoned("2019-02-11 05:09:12"), Ok(micros_of("2019-02-11T05:09:12Z")));
    assert!(zoned("2019-02-11 05:09:12 Mars").is_err());
}

#[test]
fn times_of_day() {
    assert_eq!(time(b"00:00:01"), Ok(1_000_000));
    assert_eq!(time(b"23:59"), Ok(86_340_000_000));
    assert_eq!(time(b"24:00:00"), Ok(86_400_000_000));
    assert!(time(b"24:00:01").is_err() && time(b"12").is_err());
    assert_eq!(time_with_zone(b"01:00:00+02"), Ok(23 * 3_600_000_000_000));
    assert_eq!(time_with_zone(b"24:00:00"), Ok(86_400_000_000_000));
}

#[test]
fn epochs() {
    assert_eq!(epoch(b"1549861752", 1), Ok(1_549_861_752_000_000));
    assert_eq!(epoch(b"1549861752.5", 1), Ok(1_549_861_752_500_000));
    assert_eq!(epoch(b"-1", 1000), Ok(-1000));
    assert_eq!(epoch(b"1549861752195", 1000), Ok(1_549_861_752_195_000));
    assert!(epoch(b"99999999999999999999", 1).is_err());
    assert!(epoch(b"2019-02-11", 1).is_err());
}

#[test]
fn patterns() {
    let date =
        |pattern: &str, text: &str| DatePattern::parse(pattern).unwrap().days(text.as_bytes()).ok();
    let expected = Some(iso_date(b"2008-03-31").unwrap());
    assert_eq!(date("MM/DD/YYYY", "03/31/2008"), expected);
    assert_eq!(date("MM/DD/YYYY", "3/31/2008"), expected);
    assert_eq!(date("YYYYMMDD", "20080331"), expected);
    assert_eq!(date("YYYYMMDD", "2008331"), None);
    assert_eq!(date("DD-MON-YY", "31-Mar-08"), expected);
    assert_eq!(date("MON DD, YYYY", "march 31, 2008"), expected);
    assert_eq!(date("YYYY-MM-DD", "2008/03/31"), None);
    for bad in ["YYYY-MM", "YYYY-MM-DD-YYYY", "YYYY-MM-MON-DD", "YYYY-MM-DD HH", ""] {
        assert_eq!(DatePattern::parse(bad), None, "{bad}");
    }
    let stamp = |pattern: &str, text: &str| {
        TimestampPattern::parse(pattern).unwrap().micros(text.as_bytes(), Zone::With).ok()
    };
    let noon = Some(micros_of("2008-03-31T12:05:06.25Z"));
    assert_eq!(stamp("MM.DD.YYYY HH:MI:SS", "03.31.2008 12:05:06.25"), noon);
    assert_eq!(stamp("MM.DD.YYYY HH12:MI:SS PM", "03.31.2008 12:05:06.25 PM"), noon);
    assert_eq!(stamp("YYYY-MM-DDTHH:MI:SSOF", "2008-03-31T14:05:06.25+02"), noon);
    let midnight = Some(micros_of("2008-03-31T00:05:06Z"));
    assert_eq!(stamp("MM.DD.YYYY HH12:MI:SS AM", "03.31.2008 12:05:06 AM"), midnight);
    assert_eq!(stamp("MM.DD.YYYY HH12:MI:SS AM", "03.31.2008 13:05:06 AM"), None);
}

proptest! {
    #[test]
    fn dates_agree_with_chrono(days in -200_000_i32..2_900_000) {
        let date = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap()
            + chrono::Duration::days(i64::from(days));
        prop_assume!(date.year() >= 1000);
        let text = format!("{:04}-{:02}-{:02}", date.year(), date.month(), date.day());
        prop_assert_eq!(iso_date(text.as_bytes()), Ok(days));
    }

    #[test]
    fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = iso_date(&bytes);
        let _ = iso_timestamp(&bytes, Zone::With);
        let _ = time_with_zone(&bytes);
        let _ = epoch(&bytes, 1000);
        let _ = super::super::auto::timestamp(&bytes, Zone::With);
        let _ = super::super::auto::date(&bytes);
        let pattern = TimestampPattern::parse("MON-DD-YY HH12:MI:SS.PMOF").unwrap();
        let _ = pattern.micros(&bytes, Zone::With);
    }

    #[test]
    fn no_digits_panic(text in "[-+0-9:. /TZJ]{0,30}") {
        let _ = iso_timestamp(text.as_bytes(), Zone::With);
        let _ = super::super::auto::timestamp(text.as_bytes(), Zone::With);
    }
}
