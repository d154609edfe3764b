//! Unary minus and ABS, which raise an error instead of wrapping.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::integer::{Integer, out_of_range};
use crate::error::{Error, ErrorKind};

/// Its name in plans.
pub(super) const NAME: &str = "negate";

/// Both of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Sign::Opposite, Sign::Positive]
        .map(|sign| {
            let signature = Signature::user_defined(Volatility::Immutable);
            ScalarUDF::from(Negate { sign, signature })
        })
        .into()
}

/// The sign that a value gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Sign {
    /// Unary minus.
    Opposite,
    /// ABS
    Positive,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Negate {
    sign: Sign,
    signature: Signature,
}

impl ScalarUDFImpl for Negate {
    fn name(&self) -> &str {
        match self.sign {
            Sign::Opposite => NAME,
            Sign::Positive => "abs",
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let argument = args.first().map(ToString::to_string).unwrap_or_default();
        Ok(match self.sign {
            Sign::Opposite => format!("(- {argument})"),
            Sign::Positive => format!("abs({argument})"),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [DataType::Null] => Ok(vec![DataType::Int32]),
            [
                known @ (DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::Float32
                | DataType::Float64
                | DataType::Decimal128(..)),
            ] => Ok(vec![known.clone()]),
            [interval @ DataType::Interval(_)] if self.sign == Sign::Opposite => {
                Ok(vec![interval.clone()])
            }
            [DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8] => {
                Ok(vec![DataType::Float64])
            }
            [_] if self.sign == Sign::Positive => plan_err!("no such arguments"),
            [other] => Err(Error::new(
                ErrorKind::UndefinedFunction,
                format!("operator does not exist: - {}", crate::types::type_name(other)),
            )
            .into()),
            _ => plan_err!("no such arguments"),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.coerce_types(arg_types).map(|mut types| types.remove(0))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let negated = match self.sign {
            Sign::Opposite => negate(&arrays[0])?,
            Sign::Positive => absolute(&arrays[0])?,
        };
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&negated, 0)?));
        }
        Ok(ColumnarValue::Array(negated))
    }
}

fn negate(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Int16 => integers::<Int16Type>(array),
        DataType::Int32 => integers::<Int32Type>(array),
        DataType::Int64 => integers::<Int64Type>(array),
        DataType::Decimal128(..) => {
            // Every decimal has a negative of as many digits.
            let negated: Decimal128Array =
                array.as_primitive::<Decimal128Type>().unary(i128::wrapping_neg);
            Ok(Arc::new(negated.with_data_type(array.data_type().clone())))
        }
        _ => Ok(numeric::neg(array)?),
    }
}

fn absolute(array: &ArrayRef) -> Result<ArrayRef> {
    match array.data_type() {
        DataType::Int16 => absolute_integers::<Int16Type>(array),
        DataType::Int32 => absolute_integers::<Int32Type>(array),
        DataType::Int64 => absolute_integers::<Int64Type>(array),
        DataType::Float32 => {
            Ok(Arc::new(array.as_primitive::<Float32Type>().unary::<_, Float32Type>(f32::abs)))
        }
        DataType::Float64 => {
            Ok(Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f64::abs)))
        }
        _ => {
            let positive: Decimal128Array =
                array.as_primitive::<Decimal128Type>().unary(i128::wrapping_abs);
            Ok(Arc::new(positive.with_data_type(array.data_type().clone())))
        }
    }
}

fn absolute_integers<T: Integer>(array: &ArrayRef) -> Result<ArrayRef> {
    let zero = T::Native::default();
    let positive: PrimitiveArray<T> = array.as_primitive::<T>().try_unary(|value| {
        if value >= zero {
            Ok(value)
        } else {
            T::negate(value).ok_or_else(|| out_of_range(T::NAME))
        }
    })?;
    Ok(Arc::new(positive))
}

fn integers<T: Integer>(array: &ArrayRef) -> Result<ArrayRef> {
    let negated: PrimitiveArray<T> = array
        .as_primitive::<T>()
        .try_unary(|value| T::negate(value).ok_or_else(|| out_of_range(T::NAME)))?;
    Ok(Arc::new(negated))
}
