//! The operators + - * / % as functions that raise an error where DataFusion's would wrap.

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::compute::kernels::numeric;
use arrow::datatypes::{
    DataType, Date32Type, DurationMicrosecondType, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::{decimal, integer, interval};
use crate::error::{Error, ErrorKind, raise};
use crate::types::type_name;

/// Microseconds of a day.
const DAY_MICROSECONDS: i64 = 86_400_000_000;

/// A binary arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    /// +
    Add,
    /// -
    Subtract,
    /// *
    Multiply,
    /// /
    Divide,
    /// %
    Modulo,
}

impl Arithmetic {
    const ALL: [Self; 5] = [Self::Add, Self::Subtract, Self::Multiply, Self::Divide, Self::Modulo];

    /// The name of the function in plans.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "checked_add",
            Self::Subtract => "checked_subtract",
            Self::Multiply => "checked_multiply",
            Self::Divide => "checked_divide",
            Self::Modulo => "checked_modulo",
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Modulo => "%",
        }
    }
}

/// How the operator is written, of which this is the name in plans.
pub(crate) fn operator_symbol(name: &str) -> Option<&'static str> {
    if name == super::text::CONCATENATE {
        return Some("||");
    }
    Arithmetic::ALL.into_iter().find(|operation| operation.name() == name).map(Arithmetic::symbol)
}

/// Whether a function of a plan is one of these.
pub(crate) fn is_arithmetic(function: &ScalarUDF) -> bool {
    Arithmetic::ALL.iter().any(|operation| operation.name() == function.name())
}

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    Arithmetic::ALL.map(|operation| ScalarUDF::from(ArithmeticFunction::new(operation))).into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ArithmeticFunction {
    operation: Arithmetic,
    signature: Signature,
}

impl ArithmeticFunction {
    fn new(operation: Arithmetic) -> Self {
        Self { operation, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for ArithmeticFunction {
    fn name(&self) -> &str {
        self.operation.name()
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("({left} {} {right})", self.operation.symbol())),
            _ => Ok(self.name().to_owned()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        match arg_types {
            [left, right] => {
                let (left, right) = coerce(self.operation, left, right)?;
                Ok(vec![left, right])
            }
            _ => Err(undefined(self.operation, arg_types)),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        match arg_types {
            [left, right] => {
                let (left, right) = coerce(self.operation, left, right)?;
                result_type(self.operation, &left, &right)
                    .ok_or_else(|| undefined(self.operation, arg_types))
            }
            _ => Err(undefined(self.operation, arg_types)),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.as_slice() {
            [left, right] => evaluate(self.operation, left, right, args.return_field.data_type()),
            _ => Err(undefined(self.operation, &[])),
        }
    }
}

fn undefined(operation: Arithmetic, types: &[DataType]) -> datafusion::common::DataFusionError {
    let names: Vec<String> = types.iter().map(type_name).collect();
    let symbol = format!(" {} ", operation.symbol());
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("operator does not exist: {}", names.join(&symbol)),
    )
    .with_hint("No operator matches the given name and argument type(s). You may need to add explicit type casts.")
    .into()
}

fn is_integer(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Int16 | DataType::Int32 | DataType::Int64)
}

fn is_numeric(data_type: &DataType) -> bool {
    is_integer(data_type)
        || matches!(data_type, DataType::Decimal128(..) | DataType::Float32 | DataType::Float64)
}

fn is_string(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8)
}

/// INTEGER as DECIMAL.
fn as_decimal(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int16 => DataType::Decimal128(5, 0),
        DataType::Int32 => DataType::Decimal128(10, 0),
        DataType::Int64 => DataType::Decimal128(19, 0),
        other => other.clone(),
    }
}

/// Types other than ours that DataFusion's functions return.
fn normalize(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Int8 | DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    }
}

/// The types that the operands are cast to.
fn coerce(
    operation: Arithmetic,
    left: &DataType,
    right: &DataType,
) -> Result<(DataType, DataType)> {
    let (left, right) = (normalize(left), normalize(right));
    let coerced = match (&left, &right) {
        (DataType::Null, DataType::Null) => Some((DataType::Int32, DataType::Int32)),
        (DataType::Null, other) if is_numeric(other) => Some((other.clone(), other.clone())),
        (other, DataType::Null) if is_numeric(other) => Some((other.clone(), other.clone())),
        (l, r) if is_integer(l) && is_integer(r) => {
            let wider = wider_integer(l, r);
            Some((wider.clone(), wider))
        }
        (DataType::Float32, DataType::Float32) => Some((DataType::Float32, DataType::Float32)),
        (l, r) if is_numeric(l) && is_numeric(r) => {
            let has_float =
                [l, r].iter().any(|side| matches!(side, DataType::Float32 | DataType::Float64));
            Some(if has_float {
                (DataType::Float64, DataType::Float64)
            } else {
                (as_decimal(l), as_decimal(r))
            })
        }
        (l, r) if is_string(l) && is_numeric(r) => Some((r.clone(), r.clone())),
        (l, r) if is_numeric(l) && is_string(r) => Some((l.clone(), l.clone())),
        (l, r) => coerce_dates(operation, l, r),
    };
    coerced.ok_or_else(|| undefined(operation, &[left, right]))
}

fn wider_integer(left: &DataType, right: &DataType) -> DataType {
    [DataType::Int64, DataType::Int32]
        .into_iter()
        .find(|wide| left == wide || right == wide)
        .unwrap_or(DataType::Int16)
}

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

fn coerce_dates(
    operation: Arithmetic,
    left: &DataType,
    right: &DataType,
) -> Option<(DataType, DataType)> {
    use Arithmetic::{Add, Divide, Modulo, Multiply, Subtract};
    use DataType::{Date32, Float64, Int32, Interval, Null, Time64, Timestamp};
    let is_sum = matches!(operation, Add | Subtract);
    let days = |data_type: &DataType| is_integer(data_type) || *data_type == Null;
    match (left, right, operation) {
        (Date32, r, _) if is_sum && days(r) => Some((Date32, Int32)),
        (l, Date32, Add) if days(l) => Some((Int32, Date32)),
        (Date32, Date32, Subtract) => Some((Date32, Date32)),
        (Date32, Interval(_), _) if is_sum => Some((TIMESTAMP, INTERVAL)),
        (Interval(_), Date32, Add) => Some((INTERVAL, TIMESTAMP)),
        (Timestamp(..), Interval(_), _) if is_sum => Some((left.clone(), INTERVAL)),
        (Interval(_), Timestamp(..), Add) => Some((INTERVAL, right.clone())),
        (Interval(_), Interval(_), _) if is_sum => Some((INTERVAL, INTERVAL)),
        (Interval(_), r, Multiply | Divide) if is_numeric(r) => Some((INTERVAL, Float64)),
        (l, Interval(_), Multiply) if is_numeric(l) => Some((Float64, INTERVAL)),
        (Date32 | Timestamp(_, None), Time64(TimeUnit::Microsecond), Add) => {
            Some((TIMESTAMP, right.clone()))
        }
        (Time64(TimeUnit::Microsecond), Date32 | Timestamp(_, None), Add) => {
            Some((left.clone(), TIMESTAMP))
        }
        (Timestamp(_, zone), Timestamp(_, other), Subtract) if zone == other => {
            Some((left.clone(), right.clone()))
        }
        (Timestamp(_, None), Date32, Subtract) | (Date32, Timestamp(_, None), Subtract) => {
            Some((TIMESTAMP, TIMESTAMP))
        }
        (_, _, Multiply | Divide | Modulo | Add | Subtract) => None,
    }
}

/// The type of the result for operands as [`coerce`] gives them.
fn result_type(operation: Arithmetic, left: &DataType, right: &DataType) -> Option<DataType> {
    use DataType::{Date32, Decimal128, Float64, Int32, Interval, Time64, Timestamp};
    Some(match (left, right) {
        (Decimal128(..), Decimal128(..)) => {
            let (precision, scale) =
                decimal::result_digits(operation, decimal::digits(left)?, decimal::digits(right)?);
            Decimal128(precision, scale.cast_signed())
        }
        (Date32, Date32) => Int32,
        (Date32, Int32) | (Int32, Date32) => Date32,
        (Timestamp(..), Timestamp(..)) => INTERVAL,
        (Interval(_), Float64) | (Float64, Interval(_)) => INTERVAL,
        (Timestamp(..), Time64(_)) | (Time64(_), Timestamp(..)) => TIMESTAMP,
        (Timestamp(..), Interval(_)) => left.clone(),
        (Interval(_), Timestamp(..)) => right.clone(),
        (l, r) if l == r => l.clone(),
        _ => return None,
    })
}

fn evaluate(
    operation: Arithmetic,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ColumnarValue> {
    let (left_type, right_type) = (left.data_type(), right.data_type());
    match (&left_type, &right_type) {
        (DataType::Int16, DataType::Int16) => integer::compute::<Int16Type>(operation, left, right),
        (DataType::Int32, DataType::Int32) => integer::compute::<Int32Type>(operation, left, right),
        (DataType::Int64, DataType::Int64) => integer::compute::<Int64Type>(operation, left, right),
        (DataType::Decimal128(..), DataType::Decimal128(..)) => {
            let digits = decimal::digits(&left_type).zip(decimal::digits(&right_type));
            let Some((left_digits, right_digits)) = digits else {
                return Err(undefined(operation, &[left_type, right_type]));
            };
            decimal::compute(operation, left, right, left_digits, right_digits)
        }
        _ => evaluate_arrays(operation, left, right, result),
    }
}

/// The types that are rare enough for Arrow's kernels.
fn evaluate_arrays(
    operation: Arithmetic,
    left: &ColumnarValue,
    right: &ColumnarValue,
    result: &DataType,
) -> Result<ColumnarValue> {
    let is_constant =
        matches!(left, ColumnarValue::Scalar(_)) && matches!(right, ColumnarValue::Scalar(_));
    let arrays = ColumnarValue::values_to_arrays(&[left.clone(), right.clone()])?;
    let (left, right) = (&arrays[0], &arrays[1]);
    let computed = match (left.data_type(), right.data_type()) {
        (DataType::Interval(_), DataType::Float64) | (DataType::Float64, DataType::Interval(_)) => {
            interval::scale(operation, left, right)?
        }
        (DataType::Timestamp(..), DataType::Time64(_))
        | (DataType::Time64(_), DataType::Timestamp(..)) => interval::with_time(left, right)?,
        (DataType::Float32 | DataType::Float64, _) => floats(operation, left, right)?,
        (DataType::Date32, DataType::Int32 | DataType::Date32)
        | (DataType::Int32, DataType::Date32) => days(operation, left, right, result)?,
        (DataType::Timestamp(..), DataType::Timestamp(..)) => {
            duration_to_interval(&numeric::sub(left, right).map_err(temporal_overflow)?)
        }
        _ => match operation {
            Arithmetic::Add => numeric::add(left, right).map_err(temporal_overflow)?,
            Arithmetic::Subtract => numeric::sub(left, right).map_err(temporal_overflow)?,
            _ => {
                let types = [left.data_type().clone(), right.data_type().clone()];
                return Err(undefined(operation, &types));
            }
        },
    };
    if is_constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?));
    }
    Ok(ColumnarValue::Array(computed))
}

fn temporal_overflow(_: arrow::error::ArrowError) -> datafusion::common::DataFusionError {
    raise("22008", "timestamp out of range")
}

fn floats(operation: Arithmetic, left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    if matches!(operation, Arithmetic::Divide | Arithmetic::Modulo) && has_zero_divisor(left, right)
    {
        return Err(integer::division_by_zero());
    }
    let computed = match operation {
        Arithmetic::Add => numeric::add(left, right),
        Arithmetic::Subtract => numeric::sub(left, right),
        Arithmetic::Multiply => numeric::mul(left, right),
        Arithmetic::Divide => numeric::div(left, right),
        Arithmetic::Modulo => numeric::rem(left, right),
    }?;
    if has_new_infinity(&computed, left, right) {
        return Err(raise("22003", "value out of range: overflow"));
    }
    Ok(computed)
}

fn has_zero_divisor(left: &ArrayRef, right: &ArrayRef) -> bool {
    let valid = |row: usize| left.is_valid(row) && right.is_valid(row);
    match right.as_any().downcast_ref::<Float64Array>() {
        Some(right) => (0..right.len()).any(|row| right.value(row) == 0.0 && valid(row)),
        None => match right.as_any().downcast_ref::<Float32Array>() {
            Some(right) => (0..right.len()).any(|row| right.value(row) == 0.0 && valid(row)),
            None => false,
        },
    }
}

fn has_new_infinity(computed: &ArrayRef, left: &ArrayRef, right: &ArrayRef) -> bool {
    let Some(values) = computed.as_any().downcast_ref::<Float64Array>() else { return false };
    let (Some(left), Some(right)) = (
        left.as_any().downcast_ref::<Float64Array>(),
        right.as_any().downcast_ref::<Float64Array>(),
    ) else {
        return false;
    };
    if !values.values().iter().any(|value| value.is_infinite()) {
        return false;
    }
    (0..values.len()).any(|row| {
        values.is_valid(row)
            && values.value(row).is_infinite()
            && left.value(row).is_finite()
            && right.value(row).is_finite()
    })
}

/// DATE with days.
fn days(
    operation: Arithmetic,
    left: &ArrayRef,
    right: &ArrayRef,
    result: &DataType,
) -> Result<ArrayRef> {
    let as_days = |array: &ArrayRef| arrow::compute::cast(array, &DataType::Int32);
    let (left, right) =
        (ColumnarValue::Array(as_days(left)?), ColumnarValue::Array(as_days(right)?));
    let rows = match &left {
        ColumnarValue::Array(array) => array.len(),
        ColumnarValue::Scalar(_) => 1,
    };
    let computed = integer::compute::<Int32Type>(operation, &left, &right)
        .map_err(|_| raise("22008", "date out of range"))?
        .into_array(rows)?;
    Ok(match result {
        DataType::Date32 => {
            Arc::new(computed.as_primitive::<Int32Type>().reinterpret_cast::<Date32Type>())
        }
        _ => computed,
    })
}

/// Days and the rest.
fn duration_to_interval(duration: &ArrayRef) -> ArrayRef {
    let duration = duration.as_primitive::<DurationMicrosecondType>();
    let interval = duration.unary::<_, IntervalMonthDayNanoType>(|microseconds| {
        let days = i32::try_from(microseconds / DAY_MICROSECONDS).unwrap_or(i32::MAX);
        let nanoseconds = (microseconds % DAY_MICROSECONDS) * 1_000;
        IntervalMonthDayNanoType::make_value(0, days, nanoseconds)
    });
    Arc::new(interval)
}
