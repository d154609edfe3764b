//! Operands of binary kernels: a column or a constant, read without branches per row.

use arrow::array::{Array, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::ColumnarValue;

/// The values of an operand; those under a null are arbitrary.
pub(super) enum Operand<T: ArrowPrimitiveType> {
    /// A column.
    Column(PrimitiveArray<T>),
    /// A constant.
    Constant(T::Native),
    /// The constant NULL.
    Null,
}

impl<T: ArrowPrimitiveType> Operand<T> {
    /// The operand behind an argument of the matching type.
    pub(super) fn new(value: &ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Array(array) => match array.as_primitive_opt::<T>() {
                Some(array) => Ok(Self::Column(array.clone())),
                None => internal_err!("an arithmetic operand has type {}", array.data_type()),
            },
            ColumnarValue::Scalar(scalar) => Self::constant(scalar),
        }
    }

    fn constant(scalar: &ScalarValue) -> Result<Self> {
        if scalar.is_null() {
            return Ok(Self::Null);
        }
        let array = scalar.to_array()?;
        match array.as_primitive_opt::<T>() {
            Some(array) => Ok(Self::Constant(array.value(0))),
            None => internal_err!("an arithmetic operand has type {}", scalar.data_type()),
        }
    }

    /// Which rows are not null.
    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        match self {
            Self::Column(array) => array.nulls(),
            Self::Constant(_) | Self::Null => None,
        }
    }

    /// The value of a row.
    pub(super) fn at(&self, row: usize) -> T::Native {
        match self {
            Self::Column(array) => array.values()[row],
            Self::Constant(value) => *value,
            Self::Null => T::Native::default(),
        }
    }
}

/// Applies `compute` to each pair of values, nulls included.
pub(super) fn zip<T: ArrowPrimitiveType, O>(
    left: &Operand<T>,
    right: &Operand<T>,
    mut compute: impl FnMut(T::Native, T::Native) -> O,
) -> Vec<O> {
    match (left, right) {
        (Operand::Column(left), Operand::Column(right)) => {
            left.values().iter().zip(right.values()).map(|(l, r)| compute(*l, *r)).collect()
        }
        (Operand::Column(left), right) => {
            let right = right.at(0);
            left.values().iter().map(|l| compute(*l, right)).collect()
        }
        (left, Operand::Column(right)) => {
            let left = left.at(0);
            right.values().iter().map(|r| compute(left, *r)).collect()
        }
        (left, right) => vec![compute(left.at(0), right.at(0))],
    }
}

/// Rows where both are not null.
pub(super) fn valid<T: ArrowPrimitiveType>(
    left: &Operand<T>,
    right: &Operand<T>,
) -> Option<NullBuffer> {
    NullBuffer::union(left.nulls(), right.nulls())
}

/// A result of the same shape as the operands: a constant if both were.
pub(super) fn finish<T: ArrowPrimitiveType>(
    left: &Operand<T>,
    right: &Operand<T>,
    array: PrimitiveArray<T>,
) -> Result<ColumnarValue> {
    let is_column = |operand: &Operand<T>| matches!(operand, Operand::Column(_));
    if is_column(left) || is_column(right) {
        Ok(ColumnarValue::Array(std::sync::Arc::new(array)))
    } else {
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
    }
}
