//! DATEADD, DATEDIFF, DATE_TRUNC and DATE_PART with the parts and rules of Redshift.
//!
//! All work on microseconds since 1970-01-01 in the proleptic Gregorian calendar.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, PrimitiveArray};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveDateTime, Timelike};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, raise};

/// DATE_PART: a DOUBLE, with fractions of a second.
pub(crate) const DATE_PART: &str = "date_part";
/// EXTRACT: an INTEGER, and a DOUBLE for TIMESTAMPTZ and the epoch.
pub(crate) const EXTRACT: &str = "extract";

/// DATE_TRUNC: the start of a part.
pub(crate) const DATE_TRUNC: &str = "date_trunc";

/// The length in microseconds of a part that always has the same and that a moment can be cut to.
pub(crate) fn part_microseconds(name: &str) -> Option<i64> {
    Part::parse(name).ok().and_then(Part::microseconds)
}

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [
        Operation::Add,
        Operation::Difference,
        Operation::Truncate,
        Operation::Part,
        Operation::Extract,
    ]
    .map(|operation| {
        ScalarUDF::from(DateFunction {
            operation,
            signature: Signature::user_defined(Volatility::Immutable),
        })
    })
    .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Add,
    Difference,
    Truncate,
    Part,
    Extract,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateFunction {
    operation: Operation,
    signature: Signature,
}

/// A unit of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Millennium,
    Century,
    Decade,
    Year,
    Quarter,
    Month,
    Week,
    Day,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    DayOfWeek,
    DayOfYear,
    Epoch,
    IsoYear,
}

impl Part {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name.trim_matches('\'').to_ascii_lowercase().as_str() {
            "millennium" | "millennia" | "mil" | "mils" => Self::Millennium,
            "century" | "centuries" | "c" | "cent" | "cents" => Self::Century,
            "decade" | "decades" | "dec" | "decs" => Self::Decade,
            "year" | "years" | "y" | "yr" | "yrs" => Self::Year,
            "quarter" | "quarters" | "qtr" | "qtrs" => Self::Quarter,
            "month" | "months" | "mon" | "mons" => Self::Month,
            "week" | "weeks" | "w" | "isoweek" => Self::Week,
            "isoyear" => Self::IsoYear,
            "day" | "days" | "d" => Self::Day,
            "hour" | "hours" | "h" | "hr" | "hrs" => Self::Hour,
            "minute" | "minutes" | "m" | "min" | "mins" => Self::Minute,
            "second" | "seconds" | "s" | "sec" | "secs" => Self::Second,
            "millisecond" | "milliseconds" | "ms" | "msec" | "msecs" | "msecond" | "mseconds"
            | "millisec" | "millisecs" | "millisecon" => Self::Millisecond,
            "microsecond" | "microseconds" | "us" | "usec" | "usecs" | "usecond" | "useconds"
            | "microsec" | "microsecs" => Self::Microsecond,
            "dayofweek" | "dow" | "dw" | "weekday" => Self::DayOfWeek,
            "dayofyear" | "doy" | "dy" | "yearday" => Self::DayOfYear,
            "epoch" => Self::Epoch,
            _ => {
                return Err(Error::new(
                    ErrorKind::InvalidParameterValue,
                    format!("timestamp units \"{name}\" not recognized"),
                )
                .into());
            }
        })
    }

    /// Microseconds of a part of fixed length.
    fn microseconds(self) -> Option<i64> {
        Some(match self {
            Self::Week => 7 * 86_400_000_000,
            Self::Day | Self::DayOfWeek | Self::DayOfYear => 86_400_000_000,
            Self::Hour => 3_600_000_000,
            Self::Minute => 60_000_000,
            Self::Second | Self::Epoch => 1_000_000,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1,
            Self::Millennium
            | Self::Century
            | Self::Decade
            | Self::Year
            | Self::IsoYear
            | Self::Quarter
            | Self::Month => return None,
        })
    }

    /// Months of a part of months.
    fn months(self) -> i64 {
        match self {
            Self::Millennium => 12_000,
            Self::Century => 1_200,
            Self::Decade => 120,
            Self::Year | Self::IsoYear => 12,
            Self::Quarter => 3,
            _ => 1,
        }
    }
}

impl ScalarUDFImpl for DateFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Add => "dateadd",
            Operation::Difference => "datediff",
            Operation::Truncate => DATE_TRUNC,
            Operation::Part => DATE_PART,
            Operation::Extract => EXTRACT,
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let moment = |data_type: &DataType| match data_type {
            DataType::Timestamp(_, Some(_)) => {
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
            }
            _ => TIMESTAMP,
        };
        match (self.operation, arg_types) {
            (Operation::Add, [_, _, last]) => {
                Ok(vec![DataType::Utf8View, DataType::Int64, moment(last)])
            }
            (Operation::Difference, [_, from, to]) => {
                Ok(vec![DataType::Utf8View, moment(from), moment(to)])
            }
            (Operation::Truncate | Operation::Part | Operation::Extract, [_, last]) => {
                if matches!(last, DataType::Interval(_) | DataType::Time64(_)) {
                    return Err(Error::not_supported(format!("{} of {last}", self.name())).into());
                }
                Ok(vec![DataType::Utf8View, moment(last)])
            }
            _ => plan_err!("no such arguments"),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            Operation::Add | Operation::Truncate => match arg_types.last() {
                Some(zoned @ DataType::Timestamp(_, Some(_))) => zoned.clone(),
                _ => TIMESTAMP,
            },
            Operation::Difference => DataType::Int64,
            Operation::Part | Operation::Extract => DataType::Float64,
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let mut data_type = self.return_type(&types)?;
        if self.operation == Operation::Extract {
            let part = match args.scalar_arguments.first().copied().flatten() {
                Some(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name))) => {
                    Part::parse(name)?
                }
                _ => return internal_err!("a date part is not constant"),
            };
            let is_zoned = matches!(types.last(), Some(DataType::Timestamp(_, Some(_))));
            if part != Part::Epoch && !is_zoned {
                data_type = DataType::Int32;
            }
        }
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(
                ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)),
            )) => name.clone(),
            _ => return internal_err!("a date part is not constant"),
        };
        let part = Part::parse(&name)?;
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args[1..])?;
        let mut computed = self.operation.compute(part, &arrays)?;
        if *args.return_field.data_type() == DataType::Int32 {
            // The fraction of a second is cut.
            computed = arrow::compute::cast(&computed, &DataType::Int32)?;
        }
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?));
        }
        Ok(ColumnarValue::Array(computed))
    }
}

fn out_of_range() -> DataFusionError {
    raise("22008", "timestamp out of range")
}

fn moment(microseconds: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(microseconds)
        .map(|time| time.naive_utc())
        .ok_or_else(out_of_range)
}

fn microseconds(moment: NaiveDateTime) -> i64 {
    moment.and_utc().timestamp_micros()
}

impl Operation {
    fn compute(self, part: Part, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let moments = |index: usize| arrays[index].as_primitive::<TimestampMicrosecondType>();
        Ok(match self {
            Self::Add => {
                let counts = arrays[0].as_primitive::<Int64Type>();
                let added = rows(counts.len(), arrays, |row| {
                    add(part, counts.value(row), moments(1).value(row))
                })?;
                let added: PrimitiveArray<TimestampMicrosecondType> = added.into_iter().collect();
                Arc::new(added.with_data_type(arrays[1].data_type().clone()))
            }
            Self::Difference => {
                let differences: Int64Array = rows(arrays[0].len(), arrays, |row| {
                    let from = boundary(part, moments(0).value(row))?;
                    Ok(boundary(part, moments(1).value(row))? - from)
                })?
                .into_iter()
                .collect();
                Arc::new(differences)
            }
            Self::Truncate => {
                let truncated =
                    rows(arrays[0].len(), arrays, |row| truncate(part, moments(0).value(row)))?;
                let truncated: PrimitiveArray<TimestampMicrosecondType> =
                    truncated.into_iter().collect();
                Arc::new(truncated.with_data_type(arrays[0].data_type().clone()))
            }
            Self::Part | Self::Extract => {
                let parts: Float64Array =
                    rows(arrays[0].len(), arrays, |row| extract(part, moments(0).value(row)))?
                        .into_iter()
                        .collect();
                Arc::new(parts)
            }
        })
    }
}

fn rows<T>(
    length: usize,
    arrays: &[ArrayRef],
    compute: impl Fn(usize) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    (0..length)
        .map(|row| {
            if arrays.iter().any(|array| array.is_null(row)) {
                return Ok(None);
            }
            compute(row).map(Some)
        })
        .collect()
}

/// Adds parts; a month without the day ends at its last day, but years count as twelve months each.
fn add(part: Part, count: i64, start: i64) -> Result<i64> {
    if let Some(length) = part.microseconds() {
        return count
            .checked_mul(length)
            .and_then(|change| start.checked_add(change))
            .ok_or_else(out_of_range);
    }
    let months = count.checked_mul(part.months()).ok_or_else(out_of_range)?;
    let magnitude = u32::try_from(months.unsigned_abs()).map_err(|_| out_of_range())?;
    let start = moment(start)?;
    let moved = if months < 0 {
        start.checked_sub_months(Months::new(magnitude))
    } else {
        start.checked_add_months(Months::new(magnitude))
    };
    moved.map(microseconds).ok_or_else(out_of_range)
}

/// The number of the part that a moment is in, counted from a fixed point; a week begins on Sunday.
fn boundary(part: Part, value: i64) -> Result<i64> {
    if part == Part::Week {
        // 1970-01-01 was a Thursday, the fifth day of a week that begins on Sunday.
        return Ok((value.div_euclid(86_400_000_000) + 4).div_euclid(7));
    }
    if let Some(length) = part.microseconds() {
        return Ok(value.div_euclid(length));
    }
    let date = moment(value)?;
    let year = i64::from(date.year());
    Ok(match part {
        Part::Millennium => (year - 1).div_euclid(1_000),
        Part::Century => (year - 1).div_euclid(100),
        Part::Decade => year.div_euclid(10),
        Part::Year | Part::IsoYear => year,
        Part::Quarter => year * 4 + i64::from(date.month0() / 3),
        _ => year * 12 + i64::from(date.month0()),
    })
}

/// The start of the part that a moment is in; a week begins on Monday.
fn truncate(part: Part, value: i64) -> Result<i64> {
    if part == Part::Week {
        let days = value.div_euclid(86_400_000_000);
        let monday = (days + 3).div_euclid(7) * 7 - 3;
        return Ok(monday * 86_400_000_000);
    }
    if let Some(length) = part.microseconds() {
        return Ok(value.div_euclid(length) * length);
    }
    let date = moment(value)?.date();
    let (year, month) = match part {
        Part::Millennium => ((date.year() - 1).div_euclid(1_000) * 1_000 + 1, 1),
        Part::Century => ((date.year() - 1).div_euclid(100) * 100 + 1, 1),
        Part::Decade => (date.year().div_euclid(10) * 10, 1),
        Part::Year | Part::IsoYear => (date.year(), 1),
        Part::Quarter => (date.year(), date.month0() / 3 * 3 + 1),
        _ => (date.year(), date.month()),
    };
    let start = NaiveDate::from_ymd_opt(year, month, 1).ok_or_else(out_of_range)?;
    Ok(microseconds(start.into()))
}

fn extract(part: Part, value: i64) -> Result<f64> {
    let time = moment(value)?;
    let subsecond = f64::from(time.nanosecond() / 1_000);
    Ok(match part {
        Part::Millennium => f64::from((time.year() - 1).div_euclid(1_000) + 1),
        Part::Century => f64::from((time.year() - 1).div_euclid(100) + 1),
        Part::Decade => f64::from(time.year().div_euclid(10)),
        Part::Year => f64::from(time.year()),
        Part::IsoYear => f64::from(time.iso_week().year()),
        Part::Quarter => f64::from(time.month0() / 3 + 1),
        Part::Month => f64::from(time.month()),
        Part::Week => f64::from(time.iso_week().week()),
        Part::Day => f64::from(time.day()),
        Part::Hour => f64::from(time.hour()),
        Part::Minute => f64::from(time.minute()),
        Part::Second => f64::from(time.second()) + subsecond / 1e6,
        Part::Millisecond => f64::from(time.second()) * 1e3 + subsecond / 1e3,
        Part::Microsecond => f64::from(time.second()) * 1e6 + subsecond,
        Part::DayOfWeek => f64::from(time.weekday().num_days_from_sunday()),
        Part::DayOfYear => f64::from(time.ordinal()),
        Part::Epoch => value as f64 / 1e6,
    })
}
