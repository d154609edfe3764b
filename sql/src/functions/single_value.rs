//! The value of a scalar subquery: of no row NULL, of one row its value, of more an error.
//!
//! The planner may turn a scalar subquery into a join, which would silently repeat rows; with this
//! aggregate on top the subquery has exactly one row wherever it is evaluated.
//!
//! A correlated subquery is computed for all keys at once, also for those that no outer row has. There
//! [`FEW`] keeps up to two values of each key, and [`ONLY`] fails where an outer row gets two.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Builder};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::row_function::invoke;
use crate::error::raise;

/// Its name in plans.
pub(super) const NAME: &str = "single_value";

/// The function.
pub(super) fn function() -> AggregateUDF {
    AggregateUDF::from(SingleValue { signature: Signature::any(1, Volatility::Immutable) })
}

/// Keeps up to two values, as a list.
pub(super) const FEW: &str = "few_values";
/// The value of such a list.
pub(super) const ONLY: &str = "only_value";

/// The aggregate [`FEW`].
pub(super) fn few_function() -> AggregateUDF {
    AggregateUDF::from(FewValues { signature: Signature::any(1, Volatility::Immutable) })
}

/// The function [`ONLY`].
pub(super) fn only_function() -> ScalarUDF {
    ScalarUDF::from(OnlyValue { signature: Signature::any(1, Volatility::Immutable) })
}

fn list_of(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item.clone(), true)))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FewValues {
    signature: Signature,
}

impl AggregateUDFImpl for FewValues {
    fn name(&self) -> &str {
        FEW
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(list_of(&arg_types[0]))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let list = args.return_field.data_type().clone();
        Ok(vec![Arc::new(Field::new("values", list, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let list = args.return_field.data_type().clone();
        Ok(Box::new(FewValuesAccumulator { list, values: Vec::new() }))
    }
}

#[derive(Debug)]
struct FewValuesAccumulator {
    list: DataType,
    values: Vec<ScalarValue>,
}

impl FewValuesAccumulator {
    fn keep(&mut self, values: &ArrayRef) -> Result<()> {
        for row in 0..values.len().min(2 - self.values.len().min(2)) {
            self.values.push(ScalarValue::try_from_array(values, row)?);
        }
        Ok(())
    }
}

impl Accumulator for FewValuesAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.keep(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            self.keep(&lists.value(row))?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let DataType::List(item) = &self.list else {
            return internal_err!("the values of a subquery are no list");
        };
        if self.values.is_empty() {
            return ScalarValue::try_from(&self.list);
        }
        Ok(ScalarValue::List(ScalarValue::new_list(&self.values, item.data_type(), true)))
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.evaluate()?])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.iter().map(ScalarValue::size).sum::<usize>()
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OnlyValue {
    signature: Signature,
}

impl ScalarUDFImpl for OnlyValue {
    fn name(&self) -> &str {
        ONLY
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match &arg_types[0] {
            DataType::List(item) => Ok(item.data_type().clone()),
            other => internal_err!("the values of a subquery are {other}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args.args, args.number_rows, |arrays| {
            let lists = arrays[0].as_list::<i32>();
            let mut indices = UInt32Builder::with_capacity(lists.len());
            for row in 0..lists.len() {
                match lists.value_length(row) {
                    _ if lists.is_null(row) => indices.append_null(),
                    0 => indices.append_null(),
                    1 => indices.append_value(lists.value_offsets()[row].unsigned_abs()),
                    _ => return Err(too_many_rows()),
                }
            }
            Ok(arrow::compute::take(lists.values(), &indices.finish(), None)?)
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct SingleValue {
    signature: Signature,
}

impl AggregateUDFImpl for SingleValue {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = Field::new("value", args.return_field.data_type().clone(), true);
        Ok(vec![Arc::new(value), Arc::new(Field::new("rows", DataType::Int64, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let value = ScalarValue::try_from(args.return_field.data_type())?;
        Ok(Box::new(SingleValueAccumulator { value, rows: 0 }))
    }
}

#[derive(Debug)]
struct SingleValueAccumulator {
    value: ScalarValue,
    rows: i64,
}

fn too_many_rows() -> DataFusionError {
    raise("21000", "more than one row returned by a subquery used as an expression")
}

impl SingleValueAccumulator {
    fn take(&mut self, values: &ArrayRef, row: usize) -> Result<()> {
        self.rows += 1;
        if self.rows > 1 {
            return Err(too_many_rows());
        }
        self.value = ScalarValue::try_from_array(values, row)?;
        Ok(())
    }
}

impl Accumulator for SingleValueAccumulator {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        match values[0].len() {
            0 => Ok(()),
            1 => self.take(&values[0], 0),
            _ => Err(too_many_rows()),
        }
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let rows = states[1].as_primitive::<Int64Type>();
        for (index, count) in rows.values().iter().enumerate() {
            match count {
                0 => {}
                1 => self.take(&states[0], index)?,
                _ => return Err(too_many_rows()),
            }
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.value.clone())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.value.clone(), ScalarValue::Int64(Some(self.rows))])
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.value.size()
    }
}
