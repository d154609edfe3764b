//! PERCENTILE_CONT, PERCENTILE_DISC and MEDIAN as aggregates over (value, fraction): exact, so that
//! they keep all values of a group.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float64Type, TimeUnit,
    TimestampMicrosecondType,
};
use datafusion::common::utils::SingleRowListArrayBuilder;
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::decimal::overflow;
use crate::error::raise;
use crate::types::DECIMAL_PRECISION_MAX;

/// Interpolates between the two values around the fraction.
pub(crate) const CONTINUOUS: &str = "percentile_cont";
/// Gives the first value that the fraction has reached.
pub(crate) const DISCRETE: &str = "percentile_disc";

/// Digits after the point of the percentiles of integers and of decimals with fewer.
const SCALE_MIN: i8 = 4;
/// Fractions are multiples of one of so many.
const FRACTION_UNITS: i128 = 1_000_000_000;

/// Both of them.
pub(super) fn functions() -> [AggregateUDF; 2] {
    [true, false].map(|continuous| {
        let signature = Signature::user_defined(Volatility::Immutable);
        AggregateUDF::from(Percentile { continuous, signature })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    continuous: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Percentile {
    fn name(&self) -> &str {
        if self.continuous { CONTINUOUS } else { DISCRETE }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [value, _] = arg_types else { return plan_err!("no such arguments") };
        let value = match value {
            DataType::Int16 | DataType::Int32 | DataType::Int64 if self.continuous => {
                DataType::Decimal128(DECIMAL_PRECISION_MAX, SCALE_MIN)
            }
            DataType::Decimal128(_, scale) if self.continuous => {
                DataType::Decimal128(DECIMAL_PRECISION_MAX, (*scale).max(SCALE_MIN))
            }
            DataType::Float32 | DataType::Null => DataType::Float64,
            DataType::Float64 | DataType::Date32 => value.clone(),
            DataType::Timestamp(_, zone) => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            other if !self.continuous => other.clone(),
            _ => return plan_err!("no such arguments"),
        };
        Ok(vec![value, DataType::Float64])
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let item = Field::new_list_field(args.return_field.data_type().clone(), true);
        let fraction = Field::new("fraction", DataType::Float64, true);
        Ok(vec![
            Arc::new(Field::new("values", DataType::List(Arc::new(item)), true)),
            Arc::new(fraction),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Values {
            continuous: self.continuous,
            data_type: args.return_field.data_type().clone(),
            parts: Vec::new(),
            fraction: None,
        }))
    }
}

/// The values of a group.
#[derive(Debug)]
struct Values {
    continuous: bool,
    data_type: DataType,
    /// Each has memory of its own.
    parts: Vec<ArrayRef>,
    fraction: Option<f64>,
}

impl Values {
    /// Copies the values: what is passed in is a slice of a batch that all groups share.
    fn add(&mut self, values: &ArrayRef) -> Result<()> {
        let rows: UInt32Array =
            (0..values.len()).filter(|row| values.is_valid(*row)).map(|row| row as u32).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let mut part = arrow::compute::take(values, &rows, None)?;
        if let Some(strings) = part.as_string_view_opt() {
            part = Arc::new(strings.gc());
        }
        // Each part is longer than the next: few of them, and each value is copied rarely.
        while let Some(last) = self.parts.pop_if(|last| last.len() <= part.len()) {
            part = arrow::compute::concat(&[&last, &part])?;
        }
        self.parts.push(part);
        Ok(())
    }

    fn all(&self) -> Result<ArrayRef> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(AsRef::as_ref).collect();
        match parts.is_empty() {
            true => Ok(arrow::array::new_empty_array(&self.data_type)),
            false => Ok(arrow::compute::concat(&parts)?),
        }
    }

    fn set_fraction(&mut self, fraction: f64) -> Result<()> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(raise(
                "22003",
                format!("percentile value {fraction} is not between 0 and 1"),
            ));
        }
        self.fraction = Some(fraction);
        Ok(())
    }
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let fractions = values[1].as_primitive::<Float64Type>();
        if self.fraction.is_none() && !fractions.is_empty() && fractions.is_valid(0) {
            self.set_fraction(fractions.value(0))?;
        }
        self.add(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        let fractions = states[1].as_primitive::<Float64Type>();
        for row in 0..lists.len() {
            if fractions.is_valid(row) {
                self.set_fraction(fractions.value(row))?;
            }
            if lists.is_valid(row) {
                self.add(&lists.value(row))?;
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = SingleRowListArrayBuilder::new(self.all()?).build_list_scalar();
        Ok(vec![list, ScalarValue::Float64(self.fraction)])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sorted = arrow::compute::sort(&self.all()?, None)?;
        let Some(fraction) = self.fraction.filter(|_| !sorted.is_empty()) else {
            return ScalarValue::try_from(&self.data_type);
        };
        if self.continuous {
            return interpolate(&sorted, fraction);
        }
        let rank = (fraction * sorted.len() as f64).ceil().max(1.0);
        let index = (rank as usize).min(sorted.len()) - 1;
        ScalarValue::try_from_array(&sorted, index)
    }

    fn size(&self) -> usize {
        size_of_val(self)
            + self.parts.capacity() * size_of::<ArrayRef>()
            + self.parts.iter().map(|part| part.get_array_memory_size()).sum::<usize>()
    }
}

fn interpolate(sorted: &ArrayRef, fraction: f64) -> Result<ScalarValue> {
    let position = fraction * (sorted.len() - 1) as f64;
    let (low, high) = (position.floor() as usize, position.ceil() as usize);
    let share = position - position.floor();
    match sorted.data_type() {
        DataType::Float64 => {
            let values = sorted.as_primitive::<Float64Type>();
            let (low, high) = (values.value(low), values.value(high));
            let value = if low == high { low } else { low + (high - low) * share };
            Ok(ScalarValue::Float64(Some(value)))
        }
        DataType::Decimal128(precision, scale) => {
            let values = sorted.as_primitive::<Decimal128Type>();
            let value = between(values.value(low), values.value(high), share)?;
            Ok(ScalarValue::Decimal128(Some(value), *precision, *scale))
        }
        DataType::Date32 => {
            let values = sorted.as_primitive::<Date32Type>();
            let days = between(values.value(low).into(), values.value(high).into(), share)?;
            Ok(ScalarValue::Date32(Some(i32::try_from(days).map_err(|_| overflow())?)))
        }
        DataType::Timestamp(_, zone) => {
            let values = sorted.as_primitive::<TimestampMicrosecondType>();
            let moment = between(values.value(low).into(), values.value(high).into(), share)?;
            let moment = i64::try_from(moment).map_err(|_| overflow())?;
            Ok(ScalarValue::TimestampMicrosecond(Some(moment), zone.clone()))
        }
        other => internal_err!("a percentile of {other}"),
    }
}

/// low + (high - low) * share, rounded to the nearest.
fn between(low: i128, high: i128, share: f64) -> Result<i128, DataFusionError> {
    let units = (share * FRACTION_UNITS as f64).round() as i128;
    let difference = high.checked_sub(low).ok_or_else(overflow)?;
    let (whole, rest) = (difference / FRACTION_UNITS, difference % FRACTION_UNITS);
    let part = (rest * units + FRACTION_UNITS / 2).div_euclid(FRACTION_UNITS);
    whole
        .checked_mul(units)
        .and_then(|product| product.checked_add(part))
        .and_then(|change| low.checked_add(change))
        .ok_or_else(overflow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, StringViewArray};

    /// Sizes after each of many groups took one value of a batch that they share.
    fn size_of_groups(data_type: &DataType, batch: &ArrayRef) -> usize {
        let groups = (0..batch.len()).map(|row| {
            let parts = Vec::new();
            let data_type = data_type.clone();
            let mut values = Values { continuous: false, data_type, parts, fraction: None };
            values.add(&batch.slice(row, 1)).unwrap();
            values.size()
        });
        groups.sum()
    }

    #[test]
    fn a_group_is_charged_for_its_own_values() {
        let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values((0..1000).map(f64::from)));
        assert!(size_of_groups(&DataType::Float64, &numbers) < 1000 * 512);
        let texts = (0..1000).map(|number| format!("a text of some length {number}"));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter_values(texts));
        assert!(size_of_groups(&DataType::Utf8View, &texts) < 1000 * 1024);
    }

    #[test]
    fn the_parts_of_a_group_stay_few() {
        let (parts, data_type) = (Vec::new(), DataType::Float64);
        let mut values = Values { continuous: false, data_type, parts, fraction: Some(0.5) };
        for number in 0..1000 {
            let batch: ArrayRef = Arc::new(Float64Array::from(vec![Some(f64::from(number)), None]));
            values.add(&batch).unwrap();
        }
        assert!(values.parts.len() <= 10);
        assert!(values.size() < 2 * 8 * 1000 + 10 * 512);
        assert_eq!(values.evaluate().unwrap(), ScalarValue::Float64(Some(499.0)));
    }
}
