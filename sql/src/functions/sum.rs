//! SUM that raises an error instead of wrapping.
//!
//! Integers sum to BIGINT, DECIMAL(p,s) to DECIMAL(38,s), floats to DOUBLE. Integer and decimal sums
//! are kept in 128 bits, so that a sum whose parts overflow but whose whole fits is right whatever
//! the order of its rows; what does not fit 128 bits is an error at once.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF,
    Signature, Volatility,
};
use std::sync::Arc;

use super::decimal::{low_64, overflow, power_of_ten};
use super::distinct::Distinct;
use super::integer::out_of_range;
use crate::error::{Error, ErrorKind};
use crate::types::DECIMAL_PRECISION_MAX;

/// The function.
pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(Sum { signature: Signature::user_defined(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    signature: Signature,
}

/// What SUM and AVG cast their argument to.
pub(super) fn coerce_summand(name: &str, arg_types: &[DataType]) -> Result<Vec<DataType>> {
    let coerced = match arg_types {
        [DataType::Null | DataType::Int16 | DataType::Int32 | DataType::Int64] => DataType::Int64,
        [DataType::Int8 | DataType::UInt8 | DataType::UInt16 | DataType::UInt32] => DataType::Int64,
        [DataType::UInt64] => DataType::Decimal128(20, 0),
        [DataType::Float32 | DataType::Float64] => DataType::Float64,
        [decimal @ DataType::Decimal128(..)] => decimal.clone(),
        [other] => {
            let type_name = crate::types::SqlType::from_arrow(other)
                .map_or_else(|| other.to_string(), |sql_type| sql_type.to_string());
            return Err(Error::new(
                ErrorKind::UndefinedFunction,
                format!("function {name}({type_name}) does not exist"),
            )
            .with_hint("No function matches the given name and argument types. You may need to add explicit type casts.")
            .into());
        }
        _ => {
            return Err(Error::new(
                ErrorKind::UndefinedFunction,
                format!("function {name} takes one argument"),
            )
            .into());
        }
    };
    Ok(vec![coerced])
}

/// The result type of SUM and AVG for a coerced argument.
pub(super) fn total_type(argument: &DataType) -> DataType {
    match argument {
        DataType::Decimal128(_, scale) => DataType::Decimal128(DECIMAL_PRECISION_MAX, *scale),
        other => other.clone(),
    }
}

/// The state of a sum: integers and decimals as DECIMAL(38), floats as they are.
pub(super) fn total_state_type(total: &DataType) -> DataType {
    match total {
        DataType::Int64 => DataType::Decimal128(DECIMAL_PRECISION_MAX, 0),
        other => other.clone(),
    }
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        "sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        coerce_summand("sum", arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(total_type(&coerce_summand("sum", arg_types)?[0]))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if args.is_distinct {
            let item = Field::new_list_field(args.input_fields[0].data_type().clone(), true);
            return Ok(vec![Arc::new(Field::new_list("values", item, false))]);
        }
        let state = total_state_type(args.return_field.data_type());
        Ok(vec![Arc::new(Field::new(format!("{}[sum]", args.name), state, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let plain = Box::new(SumAccumulator::new(args.return_field.data_type()));
        if args.is_distinct {
            let data_type = args.expr_fields[0].data_type().clone();
            return Ok(Box::new(Distinct::new(data_type, plain)));
        }
        Ok(plain)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return Err(Error::not_supported("SUM(DISTINCT) over a window").into());
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
        Ok(Box::new(SumGroups { totals: Totals::new(args.return_field.data_type()) }))
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// A total in 128 bits or in floating point.
#[derive(Debug, Clone, Copy)]
pub(super) enum Total {
    /// Of integers or decimals.
    Exact(i128),
    /// Of floats.
    Float(f64),
}

impl Total {
    fn new(total_type: &DataType) -> Self {
        if *total_type == DataType::Float64 { Self::Float(0.0) } else { Self::Exact(0) }
    }

    /// Adds, or with a negative sign takes away, the values of a column; returns how many.
    fn add(&mut self, values: &ArrayRef, negative: bool) -> Result<i64> {
        let rows = i64::try_from(values.len() - values.null_count()).unwrap_or(i64::MAX);
        match self {
            Self::Exact(total) => {
                let sum = sum_exact(values)?;
                let changed =
                    if negative { total.checked_sub(sum) } else { total.checked_add(sum) };
                *total = changed.ok_or_else(overflow)?;
            }
            Self::Float(total) => {
                let sum = arrow::compute::sum(values.as_primitive::<Float64Type>()).unwrap_or(0.0);
                *total += if negative { -sum } else { sum };
            }
        }
        Ok(rows)
    }

    /// The total as a value of the result type.
    pub(super) fn finish(self, total_type: &DataType) -> Result<ScalarValue> {
        Ok(match (self, total_type) {
            (Self::Float(total), _) => ScalarValue::Float64(Some(total)),
            (Self::Exact(total), DataType::Decimal128(precision, scale)) => {
                check_decimal(total)?;
                ScalarValue::Decimal128(Some(total), *precision, *scale)
            }
            (Self::Exact(total), _) => {
                ScalarValue::Int64(Some(i64::try_from(total).map_err(|_| out_of_range("bigint"))?))
            }
        })
    }
}

fn check_decimal(total: i128) -> Result<()> {
    if total.unsigned_abs() < power_of_ten(38).unsigned_abs() { Ok(()) } else { Err(overflow()) }
}

fn sum_exact(values: &ArrayRef) -> Result<i128> {
    let mut total: i128 = 0;
    match values.data_type() {
        DataType::Int64 => {
            let values = values.as_primitive::<Int64Type>();
            match values.nulls() {
                None => values.values().iter().for_each(|value| total += i128::from(*value)),
                Some(_) => values.iter().flatten().for_each(|value| total += i128::from(value)),
            }
        }
        _ => {
            let values = values.as_primitive::<Decimal128Type>();
            let mut overflowed = false;
            let mut add = |value: i128| {
                let (sum, carry) = total.overflowing_add(value);
                overflowed |= carry;
                total = sum;
            };
            match values.nulls() {
                None => values.values().iter().copied().for_each(&mut add),
                Some(_) => values.iter().flatten().for_each(&mut add),
            }
            if overflowed {
                return Err(overflow());
            }
        }
    }
    Ok(total)
}

/// SUM without groups, and over sliding frames.
#[derive(Debug)]
pub(super) struct SumAccumulator {
    total: Total,
    total_type: DataType,
    rows: i64,
}

impl SumAccumulator {
    pub(super) fn new(total_type: &DataType) -> Self {
        Self { total: Total::new(total_type), total_type: total_type.clone(), rows: 0 }
    }

    /// Rows that are not null.
    pub(super) fn rows(&self) -> i64 {
        self.rows
    }

    /// The total so far.
    pub(super) fn total(&self) -> Total {
        self.total
    }

    /// Adds what another node counted.
    pub(super) fn add_rows(&mut self, rows: i64) {
        self.rows += rows;
    }

    /// The total as state.
    pub(super) fn total_state(&self) -> Result<ScalarValue> {
        let state_type = total_state_type(&self.total_type);
        if self.rows == 0 {
            ScalarValue::try_from(&state_type)
        } else {
            self.total.finish(&state_type)
        }
    }
}

impl Accumulator for SumAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows += self.total.add(&values[0], false)?;
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.rows -= self.total.add(&values[0], true)?;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.rows == 0 {
            return ScalarValue::try_from(&self.total_type);
        }
        self.total.finish(&self.total_type)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.total_state()?])
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Totals of many groups.
#[derive(Debug)]
pub(super) struct Totals {
    exact: Vec<i128>,
    float: Vec<f64>,
    /// Which groups have a value.
    seen: Vec<bool>,
    total_type: DataType,
}

impl Totals {
    pub(super) fn new(total_type: &DataType) -> Self {
        Self {
            exact: Vec::new(),
            float: Vec::new(),
            seen: Vec::new(),
            total_type: total_type.clone(),
        }
    }

    pub(super) fn is_float(&self) -> bool {
        self.total_type == DataType::Float64
    }

    /// Adds a column of values or of totals.
    pub(super) fn add(
        &mut self,
        values: &ArrayRef,
        groups: &[usize],
        filter: Option<&BooleanArray>,
        group_count: usize,
    ) -> Result<()> {
        self.seen.resize(group_count, false);
        let taken = taken_rows(values, filter);
        if self.is_float() {
            self.float.resize(group_count, 0.0);
            let column = values.as_primitive::<Float64Type>().values();
            let float = &mut self.float;
            for_taken(groups, taken.as_ref(), &mut self.seen, |row, group| {
                float[group] += column[row];
            });
            return Ok(());
        }
        self.exact.resize(group_count, 0);
        let exact = &mut self.exact;
        let mut overflowed = false;
        if *values.data_type() == DataType::Int64 {
            let column = values.as_primitive::<Int64Type>().values();
            for_taken(groups, taken.as_ref(), &mut self.seen, |row, group| {
                let (sum, carry) = exact[group].overflowing_add(i128::from(column[row]));
                overflowed |= carry;
                exact[group] = sum;
            });
        } else {
            let column = values.as_primitive::<Decimal128Type>().values();
            for_taken(groups, taken.as_ref(), &mut self.seen, |row, group| {
                let (sum, carry) = exact[group].overflowing_add(column[row]);
                overflowed |= carry;
                exact[group] = sum;
            });
        }
        if overflowed { Err(overflow()) } else { Ok(()) }
    }

    /// Takes out the exact totals of the first groups.
    pub(super) fn take_exact(&mut self, emit_to: EmitTo) -> (Vec<i128>, NullBuffer) {
        let totals = emit_to.take_needed(&mut self.exact);
        let seen = emit_to.take_needed(&mut self.seen);
        (totals, NullBuffer::from(seen))
    }

    /// Takes out the floating totals of the first groups.
    pub(super) fn take_float(&mut self, emit_to: EmitTo) -> (Vec<f64>, NullBuffer) {
        let totals = emit_to.take_needed(&mut self.float);
        let seen = emit_to.take_needed(&mut self.seen);
        (totals, NullBuffer::from(seen))
    }

    /// The first groups as state.
    pub(super) fn take_state(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.is_float() {
            let (totals, nulls) = self.take_float(emit_to);
            return Ok(Arc::new(Float64Array::new(totals.into(), Some(nulls))));
        }
        let state_type = total_state_type(&self.total_type);
        let (totals, nulls) = self.take_exact(emit_to);
        for total in &totals {
            check_decimal(*total)?;
        }
        Ok(Arc::new(Decimal128Array::new(totals.into(), Some(nulls)).with_data_type(state_type)))
    }

    pub(super) fn size(&self) -> usize {
        self.exact.capacity() * size_of::<i128>()
            + self.float.capacity() * size_of::<f64>()
            + self.seen.capacity()
    }
}

/// The rows that count: not null and passed by the filter; None for all.
pub(super) fn taken_rows(values: &ArrayRef, filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let nulls = values.nulls().filter(|nulls| nulls.null_count() > 0);
    match filter {
        None => nulls.cloned(),
        Some(filter) => {
            let passed: NullBuffer =
                filter.iter().map(|pass| pass == Some(true)).collect::<Vec<bool>>().into();
            NullBuffer::union(nulls, Some(&passed))
        }
    }
}

/// Calls `take` with row and group of each row that counts.
fn for_taken(
    groups: &[usize],
    taken: Option<&NullBuffer>,
    seen: &mut [bool],
    mut take: impl FnMut(usize, usize),
) {
    match taken {
        None => {
            for (row, group) in groups.iter().enumerate() {
                seen[*group] = true;
                take(row, *group);
            }
        }
        Some(taken) => {
            for row in taken.valid_indices() {
                let group = groups[row];
                seen[group] = true;
                take(row, group);
            }
        }
    }
}

#[derive(Debug)]
struct SumGroups {
    totals: Totals,
}

impl GroupsAccumulator for SumGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.totals.add(&values[0], group_indices, opt_filter, total_num_groups)
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.totals.add(&values[0], group_indices, None, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        if self.totals.total_type != DataType::Int64 {
            return self.totals.take_state(emit_to);
        }
        let (totals, nulls) = self.totals.take_exact(emit_to);
        let totals: Result<Vec<i64>> = totals
            .into_iter()
            .map(|total| i64::try_from(total).map_err(|_| out_of_range("bigint")))
            .collect();
        Ok(Arc::new(Int64Array::new(totals?.into(), Some(nulls))))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.totals.take_state(emit_to)?])
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let state_type = total_state_type(&self.totals.total_type);
        Ok(vec![row_states(&values[0], opt_filter, &state_type)?])
    }

    fn size(&self) -> usize {
        self.totals.size()
    }
}

/// Each row as the state of a group of its own.
pub(super) fn row_states(
    values: &ArrayRef,
    filter: Option<&BooleanArray>,
    state_type: &DataType,
) -> Result<ArrayRef> {
    let taken = taken_rows(values, filter);
    Ok(match values.data_type() {
        DataType::Float64 => {
            let column = values.as_primitive::<Float64Type>().values().clone();
            Arc::new(Float64Array::new(column, taken))
        }
        DataType::Int64 => {
            let column = values.as_primitive::<Int64Type>().values();
            let wide: Vec<i128> = column.iter().map(|value| i128::from(*value)).collect();
            Arc::new(Decimal128Array::new(wide.into(), taken).with_data_type(state_type.clone()))
        }
        _ => {
            let column = values.as_primitive::<Decimal128Type>().values().clone();
            Arc::new(Decimal128Array::new(column, taken).with_data_type(state_type.clone()))
        }
    })
}

/// Low halves, for callers that know that a total fits.
pub(super) fn as_bigint(total: i128) -> Result<i64> {
    let low = low_64(total);
    if i128::from(low) == total { Ok(low) } else { Err(out_of_range("bigint")) }
}
