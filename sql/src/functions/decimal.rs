//! Checked arithmetic on DECIMAL, with the result types of Redshift.
//!
//! Values are 128-bit integers at a scale. Where both operands of a batch fit 64 bits, which one
//! pass finds out without a branch per row, a product takes one machine multiplication.

use arrow::array::{Array, Decimal128Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Decimal128Type, i256};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;

use super::arithmetic::Arithmetic;
use super::integer::division_by_zero;
use super::operand::{Operand, finish, valid, zip};
use crate::error::raise;
use crate::types::{DECIMAL_PRECISION_MAX, DECIMAL_SCALE_MAX};

/// Least scale of a quotient.
const DIVISION_SCALE_MIN: i32 = 4;

/// Precision and scale.
pub(super) type Digits = (u8, u8);

/// "Numeric data overflow (result precision)"
pub(super) fn overflow() -> DataFusionError {
    raise("22003", "Numeric data overflow (result precision)")
}

/// 10 to the power of `exponent`, at most 38.
pub(super) fn power_of_ten(exponent: u32) -> i128 {
    10_i128.pow(exponent.min(38))
}

/// The result type of an operation, as sql documents it: precision is capped at 38, and then the
/// scale of a quotient shrinks, but not below 4.
pub(super) fn result_digits(operation: Arithmetic, left: Digits, right: Digits) -> Digits {
    let (p1, s1) = (i32::from(left.0), i32::from(left.1));
    let (p2, s2) = (i32::from(right.0), i32::from(right.1));
    let (precision, scale) = match operation {
        Arithmetic::Add | Arithmetic::Subtract => {
            let scale = s1.max(s2);
            ((p1 - s1).max(p2 - s2) + 1 + scale, scale)
        }
        Arithmetic::Multiply => (p1 + p2 + 1, s1 + s2),
        Arithmetic::Divide => {
            let scale = DIVISION_SCALE_MIN.max(s1 + p2 - s2 + 1);
            let precision = p1 - s1 + s2 + scale;
            let cap = i32::from(DECIMAL_PRECISION_MAX);
            if precision > cap {
                (cap, (cap + scale - precision).max(DIVISION_SCALE_MIN))
            } else {
                (precision, scale)
            }
        }
        Arithmetic::Modulo => {
            let scale = s1.max(s2);
            ((p1 - s1).min(p2 - s2) + scale, scale)
        }
    };
    let precision = precision.clamp(1, i32::from(DECIMAL_PRECISION_MAX));
    let scale = scale.clamp(0, i32::from(DECIMAL_SCALE_MAX)).min(precision);
    (u8::try_from(precision).unwrap_or(DECIMAL_PRECISION_MAX), u8::try_from(scale).unwrap_or(0))
}

/// The decimal with the fewest digits that holds an integer.
pub(crate) fn tightest(value: i64) -> ScalarValue {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) + 1;
    ScalarValue::Decimal128(Some(i128::from(value)), u8::try_from(digits).unwrap_or(19), 0)
}

/// The digits of a decimal type.
pub(super) fn digits(data_type: &DataType) -> Option<Digits> {
    match data_type {
        DataType::Decimal128(precision, scale) => {
            Some((*precision, u8::try_from(*scale).unwrap_or(0)))
        }
        _ => None,
    }
}

/// One operation on two decimals.
pub(super) fn compute(
    operation: Arithmetic,
    left: &ColumnarValue,
    right: &ColumnarValue,
    left_digits: Digits,
    right_digits: Digits,
) -> Result<ColumnarValue> {
    let (precision, scale) = result_digits(operation, left_digits, right_digits);
    let left = Operand::<Decimal128Type>::new(left)?;
    let right = Operand::<Decimal128Type>::new(right)?;
    let result_type = DataType::Decimal128(precision, scale.cast_signed());
    if matches!(left, Operand::Null) || matches!(right, Operand::Null) {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from(&result_type)?));
    }
    let nulls = valid(&left, &right);
    let batch = Batch { left: &left, right: &right, nulls: nulls.as_ref(), precision };
    let (s1, s2, s) = (i32::from(left_digits.1), i32::from(right_digits.1), i32::from(scale));
    let values = match operation {
        Arithmetic::Add => batch.add(shift(s - s1), shift(s - s2), 1)?,
        Arithmetic::Subtract => batch.add(shift(s - s1), shift(s - s2), -1)?,
        Arithmetic::Multiply => {
            batch.multiply(u32::from(left_digits.0) + u32::from(right_digits.0), s1 + s2 - s)?
        }
        Arithmetic::Divide => batch.divide(s - s1 + s2)?,
        Arithmetic::Modulo => batch.modulo(shift(s - s1), shift(s - s2))?,
    };
    let array = Decimal128Array::new(values.into(), nulls).with_data_type(result_type);
    finish(&left, &right, array)
}

fn shift(exponent: i32) -> i128 {
    power_of_ten(exponent.unsigned_abs())
}

struct Batch<'a> {
    left: &'a Operand<Decimal128Type>,
    right: &'a Operand<Decimal128Type>,
    nulls: Option<&'a NullBuffer>,
    precision: u8,
}

impl Batch<'_> {
    /// left * left_factor + sign * right * right_factor
    fn add(&self, left_factor: i128, right_factor: i128, sign: i128) -> Result<Vec<i128>> {
        // Below the cap the declared digits leave no room for overflow.
        if self.precision < DECIMAL_PRECISION_MAX {
            return Ok(match (left_factor, right_factor, sign) {
                (1, 1, 1) => zip(self.left, self.right, i128::wrapping_add),
                (1, 1, _) => zip(self.left, self.right, i128::wrapping_sub),
                _ => {
                    let right_factor = right_factor * sign;
                    zip(self.left, self.right, |l, r| {
                        l.wrapping_mul(left_factor).wrapping_add(r.wrapping_mul(right_factor))
                    })
                }
            });
        }
        self.checked(|l, r| {
            let left = l.checked_mul(left_factor)?;
            left.checked_add(r.checked_mul(right_factor)?.checked_mul(sign)?)
        })
    }

    /// `digits` are those of both operands together; `excess` is what the result lacks in scale.
    fn multiply(&self, digits: u32, excess: i32) -> Result<Vec<i128>> {
        if excess == 0 {
            // 64 by 64 bits are at most 2^126, which has 38 digits.
            if fits_64(self.left) && fits_64(self.right) {
                return Ok(zip(self.left, self.right, |l, r| {
                    i128::from(low_64(l)) * i128::from(low_64(r))
                }));
            }
            if digits <= u32::from(DECIMAL_PRECISION_MAX) {
                return Ok(zip(self.left, self.right, i128::wrapping_mul));
            }
            return self.checked(i128::checked_mul);
        }
        let divisor = i256::from_i128(shift(excess));
        self.checked(|l, r| {
            let product = i256::from_i128(l).checked_mul(i256::from_i128(r))?;
            product.checked_div(divisor)?.to_i128()
        })
    }

    /// left * 10^exponent / right, truncated.
    fn divide(&self, exponent: i32) -> Result<Vec<i128>> {
        self.refuse_zero()?;
        let factor = shift(exponent);
        if exponent < 0 {
            return self.checked(|l, r| match r.checked_mul(factor) {
                Some(divisor) => l.checked_div(divisor).or(Some(0)),
                None => Some(0),
            });
        }
        self.checked(|l, r| {
            if r == 0 {
                return Some(0);
            }
            match l.checked_mul(factor) {
                Some(dividend) => dividend.checked_div(r),
                None => i256::from_i128(l)
                    .checked_mul(i256::from_i128(factor))?
                    .checked_div(i256::from_i128(r))?
                    .to_i128(),
            }
        })
    }

    fn modulo(&self, left_factor: i128, right_factor: i128) -> Result<Vec<i128>> {
        self.refuse_zero()?;
        self.checked(|l, r| {
            if r == 0 {
                return Some(0);
            }
            let left = i256::from_i128(l).checked_mul(i256::from_i128(left_factor))?;
            let right = i256::from_i128(r).checked_mul(i256::from_i128(right_factor))?;
            left.checked_rem(right)?.to_i128()
        })
    }

    /// Computes row by row; a row that is not null and does not fit is an error.
    fn checked(&self, operation: impl Fn(i128, i128) -> Option<i128>) -> Result<Vec<i128>> {
        let bound = power_of_ten(u32::from(self.precision));
        let fits = |value: &i128| value.unsigned_abs() < bound.unsigned_abs();
        let mut failed = false;
        let values = zip(self.left, self.right, |l, r| {
            let value = operation(l, r).filter(fits);
            failed |= value.is_none();
            value.unwrap_or(0)
        });
        if failed {
            let row_fails = |row: usize| {
                self.nulls.is_none_or(|nulls| nulls.is_valid(row))
                    && operation(self.left.at(row), self.right.at(row)).filter(fits).is_none()
            };
            if (0..values.len()).any(row_fails) {
                return Err(overflow());
            }
        }
        Ok(values)
    }

    fn refuse_zero(&self) -> Result<()> {
        let rows = match (self.left, self.right) {
            (_, Operand::Constant(0)) => match self.left {
                Operand::Column(left) => left.len() - left.null_count(),
                _ => 1,
            },
            (_, Operand::Column(right)) => {
                let is_zero = |row: &usize| {
                    right.values()[*row] == 0 && self.nulls.is_none_or(|nulls| nulls.is_valid(*row))
                };
                usize::from((0..right.len()).any(|row| is_zero(&row)))
            }
            _ => 0,
        };
        if rows > 0 { Err(division_by_zero()) } else { Ok(()) }
    }
}

/// Whether every value, nulls included, fits 64 bits.
fn fits_64(operand: &Operand<Decimal128Type>) -> bool {
    match operand {
        Operand::Column(array) => {
            array.values().iter().fold(0, |bits, value| bits | (i128::from(low_64(*value)) ^ value))
                == 0
        }
        Operand::Constant(value) => i128::from(low_64(*value)) == *value,
        Operand::Null => true,
    }
}

/// The low 64 bits as a signed number.
pub(super) fn low_64(value: i128) -> i64 {
    value as i64
}
