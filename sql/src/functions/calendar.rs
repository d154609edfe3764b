//! ADD_MONTHS, LAST_DAY, MONTHS_BETWEEN, NEXT_DAY and the conversions of TRUNC to dates.

use arrow::array::{ArrayRef, AsArray, Float64Array, PrimitiveArray};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::ScalarUDF;
use std::sync::Arc;

use super::row_function::{Definition, Kind, function, rows};
use crate::error::raise;

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [
        Definition {
            name: "add_months",
            takes: &[&[Kind::Timestamp, Kind::BigInt]],
            gives: Kind::Timestamp,
            compute: add_months,
        },
        Definition {
            name: "last_day",
            takes: &[&[Kind::Timestamp]],
            gives: Kind::Date,
            compute: last_day,
        },
        Definition {
            name: "next_day",
            takes: &[&[Kind::Timestamp, Kind::Text]],
            gives: Kind::Date,
            compute: next_day,
        },
        Definition {
            name: "months_between",
            takes: &[&[Kind::Timestamp, Kind::Timestamp]],
            gives: Kind::Double,
            compute: months_between,
        },
    ]
    .map(function)
    .into()
}

fn out_of_range() -> DataFusionError {
    raise("22008", "timestamp out of range")
}

fn moment(arrays: &[ArrayRef], index: usize, row: usize) -> Result<NaiveDateTime> {
    let microseconds = arrays[index].as_primitive::<TimestampMicrosecondType>().value(row);
    DateTime::from_timestamp_micros(microseconds)
        .map(|time| time.naive_utc())
        .ok_or_else(out_of_range)
}

fn last_of_month(date: NaiveDate) -> Result<NaiveDate> {
    date.with_day(1)
        .and_then(|first| first.checked_add_months(Months::new(1)))
        .and_then(|next| next.pred_opt())
        .ok_or_else(out_of_range)
}

/// The last day of a month stays one.
fn add_months(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let counts = arrays[1].as_primitive::<Int64Type>();
    let added = rows(arrays, |row| {
        let start = moment(arrays, 0, row)?;
        let months = counts.value(row);
        let magnitude = u32::try_from(months.unsigned_abs()).map_err(|_| out_of_range())?;
        let moved = if months < 0 {
            start.checked_sub_months(Months::new(magnitude))
        } else {
            start.checked_add_months(Months::new(magnitude))
        };
        let moved = moved.ok_or_else(out_of_range)?;
        let date = if start.date() == last_of_month(start.date())? {
            last_of_month(moved.date())?
        } else {
            moved.date()
        };
        Ok(date.and_time(moved.time()).and_utc().timestamp_micros())
    })?;
    Ok(Arc::new(added.into_iter().collect::<PrimitiveArray<TimestampMicrosecondType>>()))
}

fn last_day(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    dates(arrays, |row| last_of_month(moment(arrays, 0, row)?.date()))
}

fn dates(arrays: &[ArrayRef], compute: impl Fn(usize) -> Result<NaiveDate>) -> Result<ArrayRef> {
    let days = rows(arrays, |row| compute(row).map(Date32Type::from_naive_date))?;
    Ok(Arc::new(days.into_iter().collect::<PrimitiveArray<Date32Type>>()))
}

/// The first such day after a date.
fn next_day(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    const NAMES: [&str; 7] =
        ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let names = arrays[1].as_string_view();
    dates(arrays, |row| {
        let name = names.value(row).trim().to_lowercase();
        let wanted = NAMES.iter().position(|day| name.len() >= 2 && day.starts_with(&name));
        let Some(wanted) = wanted.and_then(|index| i64::try_from(index).ok()) else {
            return Err(raise("22023", format!("\"{name}\" is not a day of the week")));
        };
        let date = moment(arrays, 0, row)?.date();
        let weekday = i64::from(date.weekday().num_days_from_monday());
        let days = (wanted - weekday - 1).rem_euclid(7) + 1;
        date.checked_add_signed(chrono::TimeDelta::days(days)).ok_or_else(out_of_range)
    })
}

/// Whole months between equal days or last days of months; what is over counts in months of 31 days.
fn months_between(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let months = rows(arrays, |row| {
        let (late, early) = (moment(arrays, 0, row)?, moment(arrays, 1, row)?);
        let number =
            |moment: NaiveDateTime| f64::from(moment.year()) * 12.0 + f64::from(moment.month0());
        let whole = number(late) - number(early);
        let both_last = late.date() == last_of_month(late.date())?
            && early.date() == last_of_month(early.date())?;
        if late.day() == early.day() || both_last {
            return Ok(whole);
        }
        let days = |moment: NaiveDateTime| {
            f64::from(moment.day()) + f64::from(moment.num_seconds_from_midnight()) / 86_400.0
        };
        Ok(whole + (days(late) - days(early)) / 31.0)
    })?;
    Ok(Arc::new(Float64Array::from(months)))
}
