//! Casts with the rules of Redshift, where Arrow's differ: lengths in bytes, rounding, range checks
//! and error texts.
//!
//! In a plan a cast is `redshift_cast(value, 'type', 'explicit' | 'assignment')`, so that the
//! function needs no state and survives the way to other nodes by name. Where the zone of the session
//! is not UTC it is a fourth argument, because TIMESTAMPTZ is read and shown in it.

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, PrimitiveArray, StringViewArray,
    StringViewBuilder, new_null_array,
};
use arrow::compute::CastOptions;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Date32Type, Decimal128Type, Field, FieldRef, Float32Type,
    Float64Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use datafusion::common::{DataFusionError, Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility, lit,
};
use std::sync::Arc;

use super::decimal::{overflow, power_of_ten};
use super::integer::out_of_range;
use super::parse_value;
use super::time_zone::Zone;
use super::write_value::to_text;
use crate::error::raise;
use crate::types::{SqlType, TYPE_METADATA_KEY, VARCHAR_BYTES_MAX, without_blanks};

/// Its name in plans.
pub(crate) const NAME: &str = "redshift_cast";

/// How strict a cast is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastMode {
    /// CAST and :: truncate strings.
    Explicit,
    /// INSERT refuses strings that are too long, unless only blanks are lost.
    Assignment,
}

impl CastMode {
    fn name(self) -> &'static str {
        match self {
            Self::Explicit => "explicit",
            Self::Assignment => "assignment",
        }
    }
}

/// The function.
pub(super) fn function() -> ScalarUDF {
    let counts = TypeSignature::OneOf(vec![TypeSignature::Any(3), TypeSignature::Any(4)]);
    let signature = Signature::new(counts, Volatility::Immutable);
    ScalarUDF::from(CastFunction { signature })
}

/// The zone of a session that has set none.
pub(crate) const UTC: &str = "UTC";

/// A call of it, in the zone of the session.
pub(crate) fn cast_call(value: Expr, sql_type: SqlType, mode: CastMode, zone: &str) -> Expr {
    let mut arguments = vec![value, lit(sql_type.to_string()), lit(mode.name())];
    if zone != UTC {
        arguments.push(lit(zone));
    }
    super::own(NAME).call(arguments)
}

/// The value of a constant cast, in the zone of the session.
pub(crate) fn cast_value(
    value: &ScalarValue,
    sql_type: SqlType,
    mode: CastMode,
    zone: &str,
) -> Result<ScalarValue> {
    let array = cast_array(&value.to_array()?, sql_type, mode, Zone::parse(zone)?)?;
    ScalarValue::try_from_array(&array, 0)
}

/// A constant as an Arrow type of ours.
pub(crate) fn cast_constant(
    value: &ScalarValue,
    data_type: &DataType,
    zone: &str,
) -> Result<ScalarValue> {
    match SqlType::from_arrow(data_type) {
        Some(SqlType::VarChar(_)) => {
            cast_value(value, SqlType::VarChar(VARCHAR_BYTES_MAX), CastMode::Assignment, zone)?
                .cast_to(data_type)
        }
        Some(sql_type) => cast_value(value, sql_type, CastMode::Assignment, zone),
        None => value.cast_to(data_type),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct CastFunction {
    signature: Signature,
}

fn text_of(scalar: Option<&ScalarValue>) -> Option<&str> {
    match scalar {
        Some(
            ScalarValue::Utf8(Some(text))
            | ScalarValue::Utf8View(Some(text))
            | ScalarValue::LargeUtf8(Some(text)),
        ) => Some(text),
        _ => None,
    }
}

impl ScalarUDFImpl for CastFunction {
    fn name(&self) -> &str {
        NAME
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [value, Expr::Literal(target, _), ..] => {
                Ok(format!("({value})::{}", text_of(Some(target)).unwrap_or_default()))
            }
            _ => Ok(NAME.to_owned()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        internal_err!("the type of a cast depends on its arguments")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let target = args.scalar_arguments.get(1).copied().flatten();
        match text_of(target).and_then(SqlType::from_display) {
            Some(sql_type) => {
                let field = Field::new(NAME, sql_type.arrow_type(), true);
                let metadata = [(TYPE_METADATA_KEY.to_owned(), sql_type.to_string())];
                let field = field.with_metadata(metadata.into());
                let was_string = args.arg_fields.first().is_some_and(|value| {
                    matches!(value.data_type(), DataType::Utf8 | DataType::Utf8View)
                });
                // No other type is written with a blank at its end.
                Ok(Arc::new(match sql_type {
                    SqlType::VarChar(_) if was_string => field,
                    _ => without_blanks(field),
                }))
            }
            None => internal_err!("a cast has no constant type"),
        }
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value, ColumnarValue::Scalar(target), ColumnarValue::Scalar(mode), zone @ ..] =
            args.args.as_slice()
        else {
            return internal_err!("a cast has no constant type");
        };
        let Some(sql_type) = text_of(Some(target)).and_then(SqlType::from_display) else {
            return internal_err!("a cast has an unknown type");
        };
        let mode = match text_of(Some(mode)) {
            Some("assignment") => CastMode::Assignment,
            _ => CastMode::Explicit,
        };
        let zone = match zone.first() {
            Some(ColumnarValue::Scalar(zone)) => text_of(Some(zone)).unwrap_or(UTC),
            _ => UTC,
        };
        match value {
            ColumnarValue::Scalar(value) => {
                cast_value(value, sql_type, mode, zone).map(ColumnarValue::Scalar)
            }
            ColumnarValue::Array(array) => {
                cast_array(array, sql_type, mode, Zone::parse(zone)?).map(ColumnarValue::Array)
            }
        }
    }
}

fn cannot_cast(source: &DataType, sql_type: SqlType) -> DataFusionError {
    let source =
        SqlType::from_arrow(source).map_or_else(|| source.to_string(), |source| source.to_string());
    let bare = |name: &str| name.split('(').next().unwrap_or_default().to_owned();
    raise("42846", format!("cannot cast type {} to {}", bare(&source), bare(&sql_type.to_string())))
}

fn cast_array(array: &ArrayRef, sql_type: SqlType, mode: CastMode, zone: Zone) -> Result<ArrayRef> {
    if array.data_type() == &DataType::UInt64 {
        // A literal beyond BIGINT.
        let decimals = arrow::compute::cast(array, &DataType::Decimal128(20, 0))?;
        return cast_array(&decimals, sql_type, mode, zone);
    }
    if array.data_type() == &DataType::Null {
        return Ok(new_null_array(&sql_type.arrow_type(), array.len()));
    }
    match sql_type {
        SqlType::Char(length) => fit(&to_text(array, zone)?, length, "character", true, mode),
        SqlType::VarChar(length) => {
            fit(&to_text(array, zone)?, length, "character varying", false, mode)
        }
        _ => match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => {
                from_text(&arrow::compute::cast(array, &DataType::Utf8View)?, sql_type, zone)
            }
            DataType::Utf8View => from_text(array, sql_type, zone),
            DataType::Timestamp(_, Some(_)) if sql_type != SqlType::TimestampTz => {
                from_value(&shifted(array, |moment| zone.local_of_utc(moment))?, sql_type)
            }
            DataType::Timestamp(_, None) | DataType::Date32 if sql_type == SqlType::TimestampTz => {
                let local = from_value(array, SqlType::Timestamp)?;
                let moments = shifted(&local, |local| zone.utc_of_local(local))?;
                from_value(&moments, sql_type)
            }
            _ => from_value(array, sql_type),
        },
    }
}

/// Moments moved to or from a zone, as a TIMESTAMP.
fn shifted(array: &ArrayRef, shift: impl Fn(i64) -> Result<i64>) -> Result<ArrayRef> {
    let Some(moments) = array.as_primitive_opt::<TimestampMicrosecondType>() else {
        return internal_err!("a timestamp is not in microseconds");
    };
    let shifted: PrimitiveArray<TimestampMicrosecondType> = moments.try_unary(shift)?;
    Ok(Arc::new(shifted))
}

/// Brings strings to at most `length` bytes.
fn fit(
    array: &ArrayRef,
    length: u32,
    type_name: &str,
    strip_blanks: bool,
    mode: CastMode,
) -> Result<ArrayRef> {
    let strings = array.as_string_view();
    let max = usize::try_from(length).unwrap_or(usize::MAX);
    let fits = |row: usize| strings.is_null(row) || strings.value(row).len() <= max;
    let stripped =
        |row: usize| strip_blanks && !strings.is_null(row) && strings.value(row).ends_with(' ');
    if (0..strings.len()).all(|row| fits(row) && !stripped(row)) {
        return Ok(Arc::clone(array));
    }
    let mut builder = StringViewBuilder::with_capacity(strings.len());
    for value in strings {
        let Some(value) = value else {
            builder.append_null();
            continue;
        };
        let kept = &value[..value.floor_char_boundary(max)];
        let lost = &value[kept.len()..];
        if mode == CastMode::Assignment && lost.bytes().any(|byte| byte != b' ') {
            return Err(raise("22001", format!("value too long for type {type_name}({length})")));
        }
        builder.append_value(if strip_blanks { kept.trim_end_matches(' ') } else { kept });
    }
    Ok(Arc::new(builder.finish()))
}

fn from_text(array: &ArrayRef, sql_type: SqlType, zone: Zone) -> Result<ArrayRef> {
    let text = array.as_string_view();
    Ok(match sql_type {
        SqlType::Boolean => Arc::new(
            text.iter()
                .map(|value| value.map(parse_value::boolean).transpose())
                .collect::<Result<BooleanArray>>()?,
        ),
        SqlType::SmallInt => {
            integers::<Int16Type>(text, "smallint", i16::MIN.into(), i16::MAX.into())?
        }
        SqlType::Integer => {
            integers::<Int32Type>(text, "integer", i32::MIN.into(), i32::MAX.into())?
        }
        SqlType::BigInt => integers::<Int64Type>(text, "bigint", i64::MIN, i64::MAX)?,
        SqlType::Decimal { precision, scale } => {
            let parse = |value: &str| parse_value::decimal(value, precision, scale);
            let values: Decimal128Array = parsed::<Decimal128Type>(text, parse)?;
            Arc::new(values.with_data_type(sql_type.arrow_type()))
        }
        SqlType::Real => Arc::new(parsed::<Float32Type>(text, |value| {
            parse_value::float(value).and_then(narrow)
        })?),
        SqlType::Double => Arc::new(parsed::<Float64Type>(text, parse_value::float)?),
        SqlType::Date => Arc::new(parsed::<Date32Type>(text, parse_value::date)?),
        SqlType::Time => Arc::new(parsed::<Time64MicrosecondType>(text, parse_value::time)?),
        SqlType::Timestamp => {
            Arc::new(parsed::<TimestampMicrosecondType>(text, parse_value::timestamp)?)
        }
        SqlType::TimestampTz => {
            let parse = |value: &str| parse_value::timestamp_tz(value, zone);
            let values: PrimitiveArray<TimestampMicrosecondType> =
                parsed::<TimestampMicrosecondType>(text, parse)?;
            Arc::new(values.with_data_type(sql_type.arrow_type()))
        }
        SqlType::TimeTz | SqlType::Char(_) | SqlType::VarChar(_) => {
            return Err(cannot_cast(array.data_type(), sql_type));
        }
    })
}

fn parsed<T: ArrowPrimitiveType>(
    text: &StringViewArray,
    parse: impl Fn(&str) -> Result<T::Native>,
) -> Result<PrimitiveArray<T>> {
    text.iter().map(|value| value.map(&parse).transpose()).collect()
}

fn integers<T>(text: &StringViewArray, name: &str, min: i64, max: i64) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i64>,
{
    let values = parsed::<T>(text, |value| {
        let parsed = parse_value::integer(value, name, min, max)?;
        T::Native::try_from(parsed).map_err(|_| out_of_range(name))
    })?;
    Ok(Arc::new(values))
}

fn from_value(array: &ArrayRef, sql_type: SqlType) -> Result<ArrayRef> {
    let target = sql_type.arrow_type();
    if *array.data_type() == target {
        return Ok(Arc::clone(array));
    }
    match (array.data_type(), sql_type) {
        (DataType::Decimal128(..) | DataType::Float32 | DataType::Float64, SqlType::Boolean) => {
            Err(cannot_cast(array.data_type(), sql_type))
        }
        (DataType::Float64, SqlType::Real) => {
            let values =
                array.as_primitive::<Float64Type>().try_unary::<_, Float32Type, _>(narrow)?;
            Ok(Arc::new(values))
        }
        (_, SqlType::SmallInt) => to_integer::<Int16Type>(array, "smallint"),
        (_, SqlType::Integer) => to_integer::<Int32Type>(array, "integer"),
        (_, SqlType::BigInt) => to_integer::<Int64Type>(array, "bigint"),
        (_, SqlType::Decimal { precision, scale }) => to_decimal(array, precision, scale),
        _ => {
            if !is_castable(array.data_type(), sql_type)
                || !arrow::compute::can_cast_types(array.data_type(), &target)
            {
                return Err(cannot_cast(array.data_type(), sql_type));
            }
            checked_cast(array, &target)
        }
    }
}

/// Whether SQL has the cast, where Arrow may have more: it reads dates from numbers.
pub(crate) fn is_castable(source: &DataType, target: SqlType) -> bool {
    let is_date = |sql_type: SqlType| {
        matches!(
            sql_type,
            SqlType::Date
                | SqlType::Time
                | SqlType::TimeTz
                | SqlType::Timestamp
                | SqlType::TimestampTz
        )
    };
    let is_text = |sql_type: SqlType| matches!(sql_type, SqlType::Char(_) | SqlType::VarChar(_));
    SqlType::from_arrow(source).is_some_and(|source| {
        is_text(source) || is_text(target) || is_date(source) == is_date(target)
    })
}

/// A DOUBLE as a REAL.
fn narrow(value: f64) -> Result<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what the cast does")]
    let narrow = value as f32;
    if narrow.is_infinite() && value.is_finite() {
        return Err(raise("22003", "value out of range: overflow"));
    }
    if narrow == 0.0 && value != 0.0 {
        return Err(raise("22003", "value out of range: underflow"));
    }
    Ok(narrow)
}

fn checked_cast(array: &ArrayRef, target: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: false, ..CastOptions::default() };
    arrow::compute::cast_with_options(array, target, &options)
        .map_err(|error| raise("22003", format!("value out of range: {error}")))
}

/// Decimals round half away from zero, floats half to even.
fn to_integer<T>(array: &ArrayRef, name: &str) -> Result<ArrayRef>
where
    T: ArrowPrimitiveType,
    T::Native: TryFrom<i128>,
{
    let narrow = |value: i128| T::Native::try_from(value).map_err(|_| out_of_range(name));
    let values: PrimitiveArray<T> = match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let divisor = power_of_ten(u32::from(scale.unsigned_abs()));
            let decimals = array.as_primitive::<Decimal128Type>();
            decimals.try_unary(|value| narrow(divide_rounding(value, divisor)))?
        }
        DataType::Float32 | DataType::Float64 => {
            let floats = arrow::compute::cast(array, &DataType::Float64)?;
            floats.as_primitive::<Float64Type>().try_unary(|value| {
                let rounded = value.round_ties_even();
                // 2^63 and more do not fit, and i128 holds all that do.
                if rounded.abs() < 1e19 { narrow(rounded as i128) } else { Err(out_of_range(name)) }
            })?
        }
        DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::Boolean => {
            let integers = arrow::compute::cast(array, &DataType::Int64)?;
            integers.as_primitive::<Int64Type>().try_unary(|value| narrow(i128::from(value)))?
        }
        other => {
            let types = (other.clone(), T::DATA_TYPE);
            let target = SqlType::from_arrow(&types.1).unwrap_or(SqlType::BigInt);
            return Err(cannot_cast(&types.0, target));
        }
    };
    Ok(Arc::new(values))
}

fn divide_rounding(value: i128, divisor: i128) -> i128 {
    let quotient = value / divisor;
    let remainder = value % divisor;
    if remainder.unsigned_abs() >= (divisor.unsigned_abs() - remainder.unsigned_abs())
        && divisor > 1
    {
        quotient + value.signum()
    } else {
        quotient
    }
}

fn to_decimal(array: &ArrayRef, precision: u8, scale: u8) -> Result<ArrayRef> {
    let bound = power_of_ten(u32::from(precision));
    let target = DataType::Decimal128(precision, scale.cast_signed());
    let checked = |value: i128| {
        if value.unsigned_abs() < bound.unsigned_abs() { Ok(value) } else { Err(overflow()) }
    };
    let values: Decimal128Array = match array.data_type() {
        DataType::Decimal128(_, source_scale) => {
            let change = i32::from(scale) - i32::from(*source_scale);
            let factor = power_of_ten(change.unsigned_abs());
            let decimals = array.as_primitive::<Decimal128Type>();
            if change >= 0 {
                decimals
                    .try_unary(|value| checked(value.checked_mul(factor).ok_or_else(overflow)?))?
            } else {
                decimals.try_unary(|value| checked(divide_rounding(value, factor)))?
            }
        }
        DataType::Float32 | DataType::Float64 => {
            let floats = arrow::compute::cast(array, &DataType::Float64)?;
            let factor = 10_f64.powi(i32::from(scale));
            floats.as_primitive::<Float64Type>().try_unary(|value| {
                let scaled = (value * factor).round();
                if scaled.abs() < 1e38 { checked(scaled as i128) } else { Err(overflow()) }
            })?
        }
        DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            let integers = arrow::compute::cast(array, &DataType::Int64)?;
            let factor = power_of_ten(u32::from(scale));
            integers.as_primitive::<Int64Type>().try_unary(|value| {
                checked(i128::from(value).checked_mul(factor).ok_or_else(overflow)?)
            })?
        }
        other => return Err(cannot_cast(other, SqlType::Decimal { precision, scale })),
    };
    Ok(Arc::new(values.with_data_type(target)))
}
