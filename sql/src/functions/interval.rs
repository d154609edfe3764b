//! Intervals times numbers, intervals as they are compared, and dates with a time of day.

use arrow::array::{ArrayRef, AsArray, PrimitiveArray};
use arrow::compute::kernels::arity::try_binary;
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, IntervalMonthDayNano, IntervalMonthDayNanoType,
    IntervalUnit, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::arithmetic::Arithmetic;
use super::row_function::invoke;
use crate::error::raise;
use crate::types::DECIMAL_PRECISION_MAX;

/// Intervals as they are compared: a month has 30 days and a day 24 hours.
pub(crate) const COMPARABLE: &str = "comparable_interval";

/// The function [`COMPARABLE`].
pub(super) fn functions() -> Vec<ScalarUDF> {
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    let signature = Signature::exact(vec![interval], Volatility::Immutable);
    vec![ScalarUDF::from(Comparable { signature })]
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Comparable {
    signature: Signature,
}

impl ScalarUDFImpl for Comparable {
    fn name(&self) -> &str {
        COMPARABLE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(DECIMAL_PRECISION_MAX, 0))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args.args, args.number_rows, |arrays| {
            let intervals = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
            let nanoseconds: PrimitiveArray<Decimal128Type> = intervals.unary(|interval| {
                let days = i128::from(interval.months) * 30 + i128::from(interval.days);
                days * 86_400_000_000_000 + i128::from(interval.nanoseconds)
            });
            let data_type = DataType::Decimal128(DECIMAL_PRECISION_MAX, 0);
            Ok(Arc::new(nanoseconds.with_data_type(data_type)))
        })
    }
}

/// Days of a month of which only a part is left.
const MONTH_DAYS: f64 = 30.0;
/// Nanoseconds of a day.
const DAY_NANOSECONDS: f64 = 86_400e9;

fn out_of_range(_: impl std::fmt::Debug) -> DataFusionError {
    raise("22008", "interval out of range")
}

/// An interval times, or divided by, a number; the sides of a product may be in either order.
pub(super) fn scale(operation: Arithmetic, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let (intervals, numbers) = match left.data_type() {
        DataType::Interval(_) => (left, right),
        _ => (right, left),
    };
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let numbers = numbers.as_primitive::<Float64Type>();
    let scaled: PrimitiveArray<IntervalMonthDayNanoType> =
        try_binary(intervals, numbers, |interval, number| {
            let scaled = match operation {
                Arithmetic::Divide if number == 0.0 => None,
                Arithmetic::Divide => scaled(interval, 1.0 / number),
                _ => scaled(interval, number),
            };
            scaled.ok_or_else(|| arrow::error::ArrowError::ComputeError(String::new()))
        })
        .map_err(|error| match operation {
            Arithmetic::Divide if numbers.iter().any(|number| number == Some(0.0)) => {
                super::integer::division_by_zero()
            }
            _ => out_of_range(error),
        })?;
    Ok(Arc::new(scaled))
}

/// What is left of a month becomes days, what is left of a day becomes time.
fn scaled(interval: IntervalMonthDayNano, factor: f64) -> Option<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * factor;
    let days = f64::from(interval.days) * factor;
    // Rounded, so that a third of three months leaves nothing.
    let rest_of_months = (months.fract() * MONTH_DAYS * 1e6).round() / 1e6;
    let rest_of_days = days.fract() + rest_of_months.fract();
    let nanoseconds = interval.nanoseconds as f64 * factor + rest_of_days * DAY_NANOSECONDS;
    // Intervals are shown in microseconds.
    let nanoseconds = (nanoseconds / 1e3).round() * 1e3;
    let fits = |value: f64| value.abs() <= f64::from(i32::MAX);
    let days = days.trunc() + rest_of_months.trunc();
    if !fits(months) || !fits(days) || nanoseconds.abs() >= 9.2e18 {
        return None;
    }
    Some(IntervalMonthDayNano::new(months.trunc() as i32, days as i32, nanoseconds as i64))
}

/// A moment at midnight with a time of day.
pub(super) fn with_time(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    let (moments, times) = match left.data_type() {
        DataType::Time64(_) => (right, left),
        _ => (left, right),
    };
    let moments = moments.as_primitive::<TimestampMicrosecondType>();
    let times = times.as_primitive::<Time64MicrosecondType>();
    let sum: PrimitiveArray<TimestampMicrosecondType> =
        try_binary(moments, times, |moment, time| {
            moment
                .checked_add(time)
                .ok_or_else(|| arrow::error::ArrowError::ComputeError(String::new()))
        })
        .map_err(|_| raise("22008", "timestamp out of range"))?;
    Ok(Arc::new(sum))
}
