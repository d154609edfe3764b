//! Checked arithmetic on SMALLINT, INTEGER and BIGINT.
//!
//! The first pass computes every row, nulls included, without a branch and collects whether any
//! row went wrong; only then a second pass looks at the rows that are not null, to raise the error
//! or to find that only nulls were concerned.

use arrow::array::{ArrowPrimitiveType, PrimitiveArray};
use arrow::datatypes::{Int16Type, Int32Type, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use super::arithmetic::Arithmetic;
use super::operand::{Operand, finish, valid, zip};
use crate::error::raise;

/// An integer type with its name for messages.
pub(super) trait Integer: ArrowPrimitiveType {
    /// The SQL name.
    const NAME: &'static str;

    /// The result, and a number that is negative if it does not fit.
    fn add(left: Self::Native, right: Self::Native) -> (Self::Native, i64);
    /// As `add`.
    fn subtract(left: Self::Native, right: Self::Native) -> (Self::Native, i64);
    /// As `add`.
    fn multiply(left: Self::Native, right: Self::Native) -> (Self::Native, i64);
    /// The result, or None for overflow; the divisor is not 0.
    fn divide(left: Self::Native, right: Self::Native) -> Option<Self::Native>;
    /// The remainder; the divisor is not 0.
    fn modulo(left: Self::Native, right: Self::Native) -> Self::Native;
    /// Whether a divisor is 0.
    fn is_zero(value: Self::Native) -> bool;
    /// -value, or None for overflow.
    fn negate(value: Self::Native) -> Option<Self::Native>;
}

macro_rules! integer {
    ($arrow:ty, $native:ty, $wide:ty, $name:literal) => {
        impl Integer for $arrow {
            const NAME: &'static str = $name;

            fn add(left: $native, right: $native) -> ($native, i64) {
                let sum = left.wrapping_add(right);
                (sum, i64::from((left ^ sum) & (right ^ sum)))
            }

            fn subtract(left: $native, right: $native) -> ($native, i64) {
                let difference = left.wrapping_sub(right);
                (difference, i64::from((left ^ right) & (left ^ difference)))
            }

            fn multiply(left: $native, right: $native) -> ($native, i64) {
                let wide = <$wide>::from(left) * <$wide>::from(right);
                let product = left.wrapping_mul(right);
                (product, if <$wide>::from(product) == wide { 0 } else { -1 })
            }

            fn divide(left: $native, right: $native) -> Option<$native> {
                left.checked_div(right)
            }

            fn modulo(left: $native, right: $native) -> $native {
                left.wrapping_rem(right)
            }

            fn is_zero(value: $native) -> bool {
                value == 0
            }

            fn negate(value: $native) -> Option<$native> {
                value.checked_neg()
            }
        }
    };
}

integer!(Int16Type, i16, i32, "smallint");
integer!(Int32Type, i32, i64, "integer");
integer!(Int64Type, i64, i128, "bigint");

/// "integer out of range"
pub(super) fn out_of_range(name: &str) -> DataFusionError {
    raise("22003", format!("{name} out of range"))
}

/// "division by zero"
pub(super) fn division_by_zero() -> DataFusionError {
    raise("22012", "division by zero")
}

/// One operation on two operands of the same integer type.
pub(super) fn compute<T: Integer>(
    operation: Arithmetic,
    left: &ColumnarValue,
    right: &ColumnarValue,
) -> Result<ColumnarValue> {
    let left = Operand::<T>::new(left)?;
    let right = Operand::<T>::new(right)?;
    if matches!(left, Operand::Null) || matches!(right, Operand::Null) {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&T::DATA_TYPE)?));
    }
    let mut failed = 0;
    let values = match operation {
        Arithmetic::Add => flagged(&left, &right, &mut failed, T::add),
        Arithmetic::Subtract => flagged(&left, &right, &mut failed, T::subtract),
        Arithmetic::Multiply => flagged(&left, &right, &mut failed, T::multiply),
        Arithmetic::Divide | Arithmetic::Modulo => {
            flagged(&left, &right, &mut failed, |l, r| divide::<T>(operation, l, r))
        }
    };
    let nulls = valid(&left, &right);
    if failed < 0 {
        let row_is_valid = |row: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row));
        for row in (0..values.len()).filter(row_is_valid) {
            check::<T>(operation, left.at(row), right.at(row))?;
        }
    }
    finish(&left, &right, PrimitiveArray::<T>::new(values.into(), nulls))
}

fn flagged<T: Integer>(
    left: &Operand<T>,
    right: &Operand<T>,
    failed: &mut i64,
    operation: impl Fn(T::Native, T::Native) -> (T::Native, i64),
) -> Vec<T::Native> {
    zip(left, right, |l, r| {
        let (value, flag) = operation(l, r);
        *failed |= flag;
        value
    })
}

fn divide<T: Integer>(
    operation: Arithmetic,
    left: T::Native,
    right: T::Native,
) -> (T::Native, i64) {
    if T::is_zero(right) {
        return (T::Native::default(), -1);
    }
    if operation == Arithmetic::Modulo {
        return (T::modulo(left, right), 0);
    }
    match T::divide(left, right) {
        Some(value) => (value, 0),
        None => (T::Native::default(), -1),
    }
}

fn check<T: Integer>(operation: Arithmetic, left: T::Native, right: T::Native) -> Result<()> {
    let flag = match operation {
        Arithmetic::Add => T::add(left, right).1,
        Arithmetic::Subtract => T::subtract(left, right).1,
        Arithmetic::Multiply => T::multiply(left, right).1,
        Arithmetic::Divide | Arithmetic::Modulo => {
            if T::is_zero(right) {
                return Err(division_by_zero());
            }
            divide::<T>(operation, left, right).1
        }
    };
    if flag < 0 { Err(out_of_range(T::NAME)) } else { Ok(()) }
}
