//! SUM(DISTINCT x) and AVG(DISTINCT x): the distinct values are the state.

use arrow::array::{Array, ArrayRef, AsArray};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::Accumulator;
use std::collections::HashSet;

/// Collects distinct values and hands them to the plain accumulator at the end.
#[derive(Debug)]
pub(super) struct Distinct {
    values: HashSet<ScalarValue>,
    data_type: arrow::datatypes::DataType,
    plain: Box<dyn Accumulator>,
}

impl Distinct {
    /// Over values of a type, aggregated by `plain`.
    pub(super) fn new(data_type: arrow::datatypes::DataType, plain: Box<dyn Accumulator>) -> Self {
        Self { values: HashSet::new(), data_type, plain }
    }

    fn take(&mut self, array: &ArrayRef) -> Result<()> {
        for row in (0..array.len()).filter(|row| array.is_valid(*row)) {
            self.values.insert(ScalarValue::try_from_array(array, row)?);
        }
        Ok(())
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&values[0])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states[0].as_list::<i32>();
        for list in lists.iter().flatten() {
            self.take(&list)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if !self.values.is_empty() {
            let array = ScalarValue::iter_to_array(self.values.drain())?;
            self.plain.update_batch(&[array])?;
        }
        self.plain.evaluate()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.values.iter().cloned().collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list(&values, &self.data_type, true))])
    }

    fn size(&self) -> usize {
        let entry = size_of::<ScalarValue>() + size_of::<u64>();
        size_of_val(self) + self.values.capacity() * entry
    }
}
