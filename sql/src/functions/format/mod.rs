//! TO_CHAR, TO_DATE, TO_TIMESTAMP and TO_NUMBER: values written and read by a template.
//!
//! The templates and what they do are in the files beside this one; here are the functions.

mod number;
mod read_moment;
mod template;
mod write_moment;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Float64Type, Int64Type, TimeUnit,
    TimestampMicrosecondType,
};
use chrono::{DateTime, NaiveDateTime};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use std::sync::Arc;

use super::parse_value;
use super::row_function::{Kind, invoke, rows};
use super::time_zone::Zone;
use crate::error::raise;
use crate::types::DECIMAL_PRECISION_MAX;
use number::NumberTemplate;
use read_moment::Strictness;
use template::Piece;

/// TO_CHAR, to which the zone of the session is added as a third argument.
pub(crate) const TO_CHAR: &str = "to_char";
/// TO_TIMESTAMP, likewise a fourth.
pub(crate) const TO_TIMESTAMP: &str = "to_timestamp";

const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Operation::Char, Operation::Date, Operation::Timestamp, Operation::Number]
        .map(|operation| {
            ScalarUDF::from(FormatFunction {
                operation,
                signature: Signature::user_defined(Volatility::Immutable),
            })
        })
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    Char,
    Date,
    Timestamp,
    Number,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatFunction {
    operation: Operation,
    signature: Signature,
}

impl ScalarUDFImpl for FormatFunction {
    fn name(&self) -> &str {
        match self.operation {
            Operation::Char => TO_CHAR,
            Operation::Date => "to_date",
            Operation::Timestamp => TO_TIMESTAMP,
            Operation::Number => "to_number",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        const TEXT: DataType = DataType::Utf8View;
        match (self.operation, arg_types) {
            (Operation::Char, [value, _]) => Ok(vec![shown(value)?, TEXT]),
            (Operation::Char, [value, _, _]) => Ok(vec![shown(value)?, TEXT, TEXT]),
            (Operation::Number | Operation::Date | Operation::Timestamp, [_, _]) => {
                Ok(vec![TEXT; 2])
            }
            (Operation::Date | Operation::Timestamp, [_, _, _]) => {
                Ok(vec![TEXT, TEXT, DataType::Boolean])
            }
            (Operation::Timestamp, [_, _, _, _]) => Ok(vec![TEXT, TEXT, DataType::Boolean, TEXT]),
            _ => plan_err!("no such arguments"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(match self.operation {
            Operation::Char => DataType::Utf8View,
            Operation::Date => DataType::Date32,
            Operation::Timestamp => Kind::TimestampTz.arrow_type(),
            Operation::Number => DataType::Decimal128(DECIMAL_PRECISION_MAX, 0),
        })
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> =
            args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let mut data_type = self.return_type(&types)?;
        if self.operation == Operation::Number {
            data_type = number_type(args.scalar_arguments.get(1).copied().flatten())?;
        }
        Ok(Arc::new(Field::new(self.name(), data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let result = args.return_field.data_type().clone();
        invoke(&args.args, args.number_rows, |arrays| match self.operation {
            Operation::Char => to_char(arrays),
            Operation::Date => to_date(arrays),
            Operation::Timestamp => to_timestamp(arrays),
            Operation::Number => to_number(arrays, &result),
        })
    }
}

/// What TO_CHAR takes a value as.
fn shown(given: &DataType) -> Result<DataType> {
    Ok(match given {
        DataType::Timestamp(_, Some(_)) => Kind::TimestampTz.arrow_type(),
        DataType::Timestamp(_, None) | DataType::Date32 => TIMESTAMP,
        DataType::Int16 | DataType::Int32 | DataType::Int64 => DataType::Int64,
        DataType::Float32 | DataType::Float64 | DataType::Null => DataType::Float64,
        DataType::Decimal128(..) => given.clone(),
        _ => return plan_err!("no such arguments"),
    })
}

/// The digits of a constant template are those of the result.
fn number_type(template: Option<&ScalarValue>) -> Result<DataType> {
    let template = match template {
        Some(ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text))) => {
            NumberTemplate::parse(text)?
        }
        Some(_) => return Ok(DataType::Decimal128(DECIMAL_PRECISION_MAX, 0)),
        None => {
            return Err(raise("0A000", "to_number with a format that is not constant"));
        }
    };
    let (digits, scale) = template.digits();
    let too_many = |_| raise("22023", "a number format has more than 38 digits");
    let precision = u8::try_from(digits.max(1)).map_err(too_many)?;
    let scale = i8::try_from(scale)
        .map_err(|_| raise("22023", "a number format has more than 38 digits"))?;
    if precision > DECIMAL_PRECISION_MAX {
        return Err(raise("22023", "a number format has more than 38 digits"));
    }
    Ok(DataType::Decimal128(precision, scale))
}

fn to_char(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let texts = match arrays[0].data_type() {
        DataType::Timestamp(..) => moments_to_char(arrays)?,
        _ => numbers_to_char(arrays)?,
    };
    Ok(Arc::new(texts.into_iter().collect::<StringViewArray>()))
}

/// What a text was read to, kept while the same text comes again.
struct Last<'a, T>(Option<(&'a str, T)>);

impl<'a, T> Last<'a, T> {
    fn get(&mut self, text: &'a str, read: impl FnOnce(&str) -> Result<T>) -> Result<&T> {
        if self.0.as_ref().is_none_or(|(known, _)| *known != text) {
            self.0 = Some((text, read(text)?));
        }
        match &self.0 {
            Some((_, value)) => Ok(value),
            None => Err(raise("XX000", "a format was not read")),
        }
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>> {
    Ok(template::parse(text))
}

fn moments_to_char(arrays: &[ArrayRef]) -> Result<Vec<Option<String>>> {
    let moments = arrays[0].as_primitive::<TimestampMicrosecondType>();
    let templates = arrays[1].as_string_view();
    let zone = match arrays.get(2) {
        Some(zones) if !zones.is_empty() => Zone::parse(zones.as_string_view().value(0))?,
        _ => Zone::Named(chrono_tz::Tz::UTC),
    };
    let is_zoned = matches!(arrays[0].data_type(), DataType::Timestamp(_, Some(_)));
    let mut last = Last(None);
    rows(&arrays[..2], |row| {
        let template = last.get(templates.value(row), pieces)?;
        let moment = moments.value(row);
        if !is_zoned {
            return Ok(write_moment::write(template, naive(moment)?, None));
        }
        let shown = write_moment::Zone {
            abbreviation: zone.abbreviation(moment)?,
            offset_seconds: zone.offset_seconds(moment)?,
        };
        Ok(write_moment::write(template, naive(zone.local_of_utc(moment)?)?, Some(&shown)))
    })
}

fn naive(microseconds: i64) -> Result<NaiveDateTime> {
    DateTime::from_timestamp_micros(microseconds)
        .map(|time| time.naive_utc())
        .ok_or_else(|| raise("22008", "timestamp out of range"))
}

fn numbers_to_char(arrays: &[ArrayRef]) -> Result<Vec<Option<String>>> {
    let templates = arrays[1].as_string_view();
    let mut last = Last(None);
    let values = &arrays[0];
    rows(&arrays[..2], |row| {
        let template = last.get(templates.value(row), NumberTemplate::parse)?;
        let (scale, shift) = (template.scale(), template.shift());
        let number = match values.data_type() {
            DataType::Decimal128(_, places) => {
                let value = values.as_primitive::<Decimal128Type>().value(row);
                decimal_text(value, usize::from(places.unsigned_abs()), scale, shift)
            }
            DataType::Int64 => {
                let value = values.as_primitive::<Int64Type>().value(row);
                decimal_text(i128::from(value), 0, scale, shift)
            }
            _ => {
                let value = values.as_primitive::<Float64Type>().value(row);
                let factor = 10_f64.powi(i32::try_from(shift).unwrap_or(i32::MAX));
                format!("{:.scale$}", value * factor)
            }
        };
        Ok(template.write(&number))
    })
}

/// value / 10^places * 10^shift, rounded half away from zero to `scale` places.
fn decimal_text(value: i128, places: usize, scale: usize, shift: usize) -> String {
    let mut digits = value.unsigned_abs().to_string();
    let wanted = scale + shift;
    if places > wanted {
        let cut = digits.len().checked_sub(places - wanted);
        let rounds_up =
            cut.and_then(|cut| digits.as_bytes().get(cut)).is_some_and(|digit| *digit >= b'5');
        digits.truncate(cut.unwrap_or(0));
        if rounds_up {
            let kept: u128 = digits.parse().unwrap_or(0);
            digits = (kept + 1).to_string();
        }
    } else {
        digits.extend(std::iter::repeat_n('0', wanted - places));
    }
    let width = scale + 1;
    let mut text = format!("{digits:0>width$}");
    if scale > 0 {
        text.insert(text.len() - scale, '.');
    }
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0 && !is_zero { format!("-{text}") } else { text }
}

fn strictness(arrays: &[ArrayRef], row: usize) -> Strictness {
    let strict = arrays.get(2).is_some_and(|array| {
        let array: &BooleanArray = array.as_boolean();
        array.value(row)
    });
    if strict { Strictness::Strict } else { Strictness::Lenient }
}

fn read_moments(arrays: &[ArrayRef]) -> Result<Vec<Option<NaiveDateTime>>> {
    let (texts, templates) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let mut last = Last(None);
    rows(arrays, |row| {
        let template = last.get(templates.value(row), pieces)?;
        read_moment::read(template, texts.value(row), strictness(arrays, row))
    })
}

fn to_date(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let moments = read_moments(arrays)?;
    let days = moments
        .into_iter()
        .map(|moment| moment.map(|moment| Date32Type::from_naive_date(moment.date())));
    Ok(Arc::new(days.collect::<PrimitiveArray<Date32Type>>()))
}

/// The text is in the zone of the session.
fn to_timestamp(arrays: &[ArrayRef]) -> Result<ArrayRef> {
    let zone = match arrays.get(3) {
        Some(zones) if !zones.is_empty() => Zone::parse(zones.as_string_view().value(0))?,
        _ => Zone::Named(chrono_tz::Tz::UTC),
    };
    let given = &arrays[..arrays.len().min(3)];
    let moments = read_moments(given)?
        .into_iter()
        .map(|moment| {
            let local = moment.map(|moment| moment.and_utc().timestamp_micros());
            local.map(|local| zone.utc_of_local(local)).transpose()
        })
        .collect::<Result<PrimitiveArray<TimestampMicrosecondType>>>()?;
    Ok(Arc::new(moments.with_data_type(Kind::TimestampTz.arrow_type())))
}

fn to_number(arrays: &[ArrayRef], result: &DataType) -> Result<ArrayRef> {
    let (texts, templates) = (arrays[0].as_string_view(), arrays[1].as_string_view());
    let DataType::Decimal128(precision, scale) = *result else {
        return Err(wrong_result());
    };
    let mut last = Last(None);
    let numbers = rows(arrays, |row| {
        let template = last.get(templates.value(row), NumberTemplate::parse)?;
        let number = number::read(template, texts.value(row))?;
        parse_value::decimal(&number, precision, scale.unsigned_abs())
    })?;
    let numbers: PrimitiveArray<Decimal128Type> = numbers.into_iter().collect();
    Ok(Arc::new(numbers.with_data_type(result.clone())))
}

fn wrong_result() -> DataFusionError {
    raise("XX000", "to_number has no decimal result")
}
