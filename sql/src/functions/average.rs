//! AVG: of integers a BIGINT without the fraction, of DECIMAL(p,s) a DECIMAL(38,s) rounded half away
//! from zero, of floats a DOUBLE.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    Signature, Volatility,
};
use std::sync::Arc;

use super::distinct::Distinct;
use super::sum::{
    SumAccumulator, Total, Totals, as_bigint, coerce_summand, row_states, taken_rows,
    total_state_type, total_type,
};
use crate::error::Error;

/// The function.
pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(Average { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
}

impl AggregateUDFImpl for Average {
    fn name(&self) -> &str {
        "avg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_summand("avg", arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(total_type(&coerce_summand("avg", arg_types)?[0]))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
            return Ok(vec![Arc::new(Field::new_list("values", item, false))]);
        }
        let state = total_state_type(args.return_field.data_type());
        Ok(vec![
            Arc::new(Field::new(format!("{}[sum]", args.name), state, true)),
            Arc::new(Field::new(format!("{}[count]", args.name), DataType::Int64, false)),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let data_type = args.return_field.data_type().clone();
        let sum = SumAccumulator::new(&data_type);
        let plain = Box::new(AverageAccumulator { sum, data_type });
        if args.is_distinct {
            let data_type = args.expr_fields[0].data_type().clone();
            return Ok(Box::new(Distinct::new(data_type, plain)));
        }
        Ok(plain)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(Error::not_supported("AVG(DISTINCT) over a window").into());
        }
        self.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        !args.is_distinct
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        Ok(Box::new(AverageGroups {
            totals: Totals::new(&data_type),
            counts: Vec::new(),
            data_type,
        }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The quotient of an integer total: its fraction is dropped.
pub(super) fn integer_average(total: i128, count: i64) -> Result<i64> {
    as_bigint(total / i128::from(count.max(1)))
}

/// The quotient of a decimal total at the same scale, rounded half away from zero.
pub(super) fn decimal_average(total: i128, count: i64) -> i128 {
    let count = i128::from(count.max(1));
    let (quotient, remainder) = (total / count, total % count);
    if remainder.abs() * 2 >= count { quotient + total.signum() } else { quotient }
}

pub(super) fn float_average(total: f64, count: i64) -> f64 {
    total / count as f64
}

#[derive(Debug)]
struct AverageAccumulator {
    sum: SumAccumulator,
    data_type: DataType,
}

impl Accumulator for AverageAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.update_batch(values)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sum.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counted = self.sum.rows();
        self.sum.merge_batch(&states[..1])?;
        // Merging counts the states; what they stand for is in their second column.
        let merged = self.sum.rows() - counted;
        let rows = arrow::compute::sum(states[1].as_primitive::<Int64Type>()).unwrap_or(0);
        self.sum.add_rows(rows - merged);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let rows = self.sum.rows();
        if rows == 0 {
            return ScalarValue::try_from(&self.data_type);
        }
        Ok(match (self.sum.total(), &self.data_type) {
            (Total::Float(total), _) => ScalarValue::Float64(Some(float_average(total, rows))),
            (Total::Exact(total), DataType::Decimal128(precision, scale)) => {
                ScalarValue::Decimal128(Some(decimal_average(total, rows)), *precision, *scale)
            }
            (Total::Exact(total), _) => ScalarValue::Int64(Some(integer_average(total, rows)?)),
        })
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.sum.total_state()?, ScalarValue::Int64(Some(self.sum.rows()))])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

#[derive(Debug)]
struct AverageGroups {
    totals: Totals,
    counts: Vec<i64>,
    data_type: DataType,
}

impl GroupsAccumulator for AverageGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.totals.add(&values[0], group_indices, opt_filter, total_num_groups)?;
        self.counts.resize(total_num_groups, 0);
        match taken_rows(&values[0], opt_filter) {
            None => group_indices.iter().for_each(|group| self.counts[*group] += 1),
            Some(taken) => {
                taken.valid_indices().for_each(|row| self.counts[group_indices[row]] += 1);
            }
        }
        Ok(())
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.totals.add(&values[0], group_indices, None, total_num_groups)?;
        self.counts.resize(total_num_groups, 0);
        let counts = values[1].as_primitive::<Int64Type>().values();
        for (group, count) in group_indices.iter().zip(counts) {
            self.counts[*group] += count;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = emit_to.take_needed(&mut self.counts);
        if self.totals.is_float() {
            let (totals, nulls) = self.totals.take_float(emit_to);
            let averages: Vec<f64> = totals
                .iter()
                .zip(&counts)
                .map(|(total, count)| float_average(*total, *count))
                .collect();
            return Ok(Arc::new(Float64Array::new(averages.into(), Some(nulls))));
        }
        let (totals, nulls) = self.totals.take_exact(emit_to);
        let pairs = totals.into_iter().zip(counts);
        if self.data_type == DataType::Int64 {
            let averages: Result<Vec<i64>> =
                pairs.map(|(total, count)| integer_average(total, count)).collect();
            return Ok(Arc::new(Int64Array::new(averages?.into(), Some(nulls))));
        }
        let averages: Vec<i128> =
            pairs.map(|(total, count)| decimal_average(total, count)).collect();
        let averages = Decimal128Array::new(averages.into(), Some(nulls));
        Ok(Arc::new(averages.with_data_type(self.data_type.clone())))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let counts = emit_to.take_needed(&mut self.counts);
        let totals = self.totals.take_state(emit_to)?;
        Ok(vec![totals, Arc::new(Int64Array::from(counts))])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let states = row_states(&values[0], opt_filter, &total_state_type(&self.data_type))?;
        let counts: Int64Array =
            (0..states.len()).map(|row| Some(i64::from(states.is_valid(row)))).collect();
        Ok(vec![states, Arc::new(counts)])
    }

    fn size(&self) -> usize {
        self.totals.size() + self.counts.capacity() * size_of::<i64>()
    }
}
