//! The average from a SUM and a COUNT of the same rows. Plans hold it where a query asks for both
//! SUM and AVG of an expression, so that the sum is kept once.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature,
    Volatility,
};
use std::sync::Arc;

use super::average::{decimal_average, float_average, integer_average};

/// Its name in plans.
pub(super) const NAME: &str = "average_of";

/// The function.
pub(super) fn function() -> ScalarUDF {
    let signature = Signature::new(TypeSignature::Any(2), Volatility::Immutable);
    ScalarUDF::from(AverageOf { signature })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AverageOf {
    signature: Signature,
}

impl ScalarUDFImpl for AverageOf {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [total, DataType::Int64] => Ok(total.clone()),
            other => internal_err!("{NAME} of {other:?}"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [totals, counts] = arrays.as_slice() else {
            return internal_err!("{NAME} takes a sum and a count");
        };
        Ok(ColumnarValue::Array(quotients(totals, counts.as_primitive::<Int64Type>())?))
    }
}

/// NULL where no row was counted.
fn quotients(totals: &ArrayRef, counts: &Int64Array) -> Result<ArrayRef> {
    let counted: NullBuffer =
        (0..counts.len()).map(|row| counts.is_valid(row) && counts.value(row) > 0).collect();
    let nulls = NullBuffer::union(totals.nulls(), Some(&counted));
    let counts = counts.values().iter();
    Ok(match totals.data_type() {
        DataType::Decimal128(..) => {
            let totals = totals.as_primitive::<Decimal128Type>();
            let pairs = totals.values().iter().zip(counts);
            let averages: Vec<i128> = pairs.map(|(t, c)| decimal_average(*t, *c)).collect();
            let averages = Decimal128Array::new(averages.into(), nulls);
            Arc::new(averages.with_data_type(totals.data_type().clone()))
        }
        DataType::Int64 => {
            let pairs = totals.as_primitive::<Int64Type>().values().iter().zip(counts);
            let averages: Result<Vec<i64>> =
                pairs.map(|(t, c)| integer_average(i128::from(*t), *c)).collect();
            Arc::new(Int64Array::new(averages?.into(), nulls))
        }
        DataType::Float64 => {
            let pairs = totals.as_primitive::<Float64Type>().values().iter().zip(counts);
            let averages: Vec<f64> = pairs.map(|(t, c)| float_average(*t, *c)).collect();
            Arc::new(Float64Array::new(averages.into(), nulls))
        }
        other => return internal_err!("{NAME} of a sum of type {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_without_rows_has_no_average() {
        let counts = Int64Array::from(vec![2, 0, 4]);
        let decimals = Decimal128Array::from(vec![Some(5), None, Some(-6)])
            .with_data_type(DataType::Decimal128(38, 2));
        let averages = quotients(&(Arc::new(decimals) as ArrayRef), &counts).unwrap();
        let averages = averages.as_primitive::<Decimal128Type>().iter().collect::<Vec<_>>();
        // 5 / 2 and -6 / 4, rounded half away from zero.
        assert_eq!(averages, [Some(3), None, Some(-2)]);
        let integers: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None, Some(-6)]));
        let averages = quotients(&integers, &counts).unwrap();
        let averages = averages.as_primitive::<Int64Type>().iter().collect::<Vec<_>>();
        assert_eq!(averages, [Some(2), None, Some(-1)]);
    }
}
