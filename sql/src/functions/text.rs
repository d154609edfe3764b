//! String functions whose results are bounded: no row may become longer than a VARCHAR can be.

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringViewArray, StringViewBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use crate::error::raise;
use crate::types::VARCHAR_BYTES_MAX;

/// The operator ||.
pub(super) const CONCATENATE: &str = "concatenate";

/// All of them.
pub(super) fn functions() -> Vec<ScalarUDF> {
    [Text::Concatenate, Text::Repeat, Text::PadLeft, Text::PadRight, Text::Replace]
        .map(|text| {
            ScalarUDF::from(TextFunction {
                text,
                signature: Signature::user_defined(Volatility::Immutable),
            })
        })
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Text {
    Concatenate,
    Repeat,
    PadLeft,
    PadRight,
    Replace,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    text: Text,
    signature: Signature,
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        match self.text {
            Text::Concatenate => CONCATENATE,
            Text::Repeat => "repeat",
            Text::PadLeft => "lpad",
            Text::PadRight => "rpad",
            Text::Replace => "replace",
        }
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let arguments: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(match self.text {
            Text::Concatenate => format!("({})", arguments.join(" || ")),
            _ => format!("{}({})", self.name(), arguments.join(", ")),
        })
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        const STRING: DataType = DataType::Utf8View;
        const COUNT: DataType = DataType::Int64;
        let types = match (self.text, arg_types.len()) {
            (Text::Concatenate, 2) => vec![STRING; 2],
            (Text::Replace, 3) => vec![STRING; 3],
            (Text::Repeat, 2) | (Text::PadLeft | Text::PadRight, 2) => vec![STRING, COUNT],
            (Text::PadLeft | Text::PadRight, 3) => vec![STRING, COUNT, STRING],
            _ => return plan_err!("no such arguments"),
        };
        Ok(types)
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let computed = self.text.compute(&arrays)?;
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?));
        }
        Ok(ColumnarValue::Array(computed))
    }
}

fn too_long() -> DataFusionError {
    raise("54000", format!("result of a string function exceeds {VARCHAR_BYTES_MAX} bytes"))
}

/// Fails if a string of so many bytes is too long.
pub(super) fn check(bytes: usize) -> Result<()> {
    if bytes <= VARCHAR_BYTES_MAX as usize { Ok(()) } else { Err(too_long()) }
}

impl Text {
    fn compute(self, arrays: &[ArrayRef]) -> Result<ArrayRef> {
        let strings = arrays[0].as_string_view();
        let mut builder = StringViewBuilder::with_capacity(strings.len());
        let mut buffer = String::new();
        for row in 0..strings.len() {
            if arrays.iter().any(|array| array.is_null(row)) {
                builder.append_null();
                continue;
            }
            buffer.clear();
            self.compute_row(strings.value(row), arrays, row, &mut buffer)?;
            builder.append_value(&buffer);
        }
        Ok(Arc::new(builder.finish()))
    }

    fn compute_row(
        self,
        value: &str,
        arrays: &[ArrayRef],
        row: usize,
        out: &mut String,
    ) -> Result<()> {
        let text = |index: usize| -> &str {
            let strings: &StringViewArray = arrays[index].as_string_view();
            strings.value(row)
        };
        let count = |index: usize| -> usize {
            let counts: &Int64Array = arrays[index].as_primitive::<Int64Type>();
            usize::try_from(counts.value(row)).unwrap_or(0)
        };
        match self {
            Self::Concatenate => {
                let right = text(1);
                check(value.len() + right.len())?;
                out.push_str(value);
                out.push_str(right);
            }
            Self::Repeat => {
                let times = count(1);
                check(value.len().checked_mul(times).ok_or_else(too_long)?)?;
                for _ in 0..times {
                    out.push_str(value);
                }
            }
            Self::PadLeft | Self::PadRight => {
                let fill = if arrays.len() > 2 { text(2) } else { " " };
                pad(value, count(1), fill, self == Self::PadLeft, out)?;
            }
            Self::Replace => {
                let (from, to) = (text(1), text(2));
                if from.is_empty() {
                    out.push_str(value);
                } else {
                    let found = value.matches(from).count();
                    check(value.len() - found * from.len() + found * to.len())?;
                    out.push_str(&value.replace(from, to));
                }
            }
        }
        Ok(())
    }
}

/// Fills to, or cuts at, a length in characters.
fn pad(value: &str, length: usize, fill: &str, left: bool, out: &mut String) -> Result<()> {
    check(length)?;
    let present = value.chars().count();
    if present >= length || fill.is_empty() {
        out.extend(value.chars().take(length));
        return check(out.len());
    }
    if !left {
        out.push_str(value);
    }
    out.extend(fill.chars().cycle().take(length - present));
    if left {
        out.push_str(value);
    }
    check(out.len())
}
