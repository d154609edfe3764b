//! Scalar functions that are computed row by row: their names, the types they take, and a function
//! over arrays. A row with a NULL argument is NULL, unless a function says otherwise.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};

/// What an argument is turned into, or a result is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// VARCHAR
    Text,
    /// INTEGER
    Integer,
    /// BIGINT
    BigInt,
    /// DOUBLE PRECISION
    Double,
    /// BOOLEAN
    Boolean,
    /// DATE
    Date,
    /// TIMESTAMP
    Timestamp,
    /// TIMESTAMPTZ
    TimestampTz,
}

impl Kind {
    /// The Arrow type.
    pub(super) fn arrow_type(self) -> DataType {
        match self {
            Self::Text => DataType::Utf8View,
            Self::Integer => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Double => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// Whether a value of the type is taken without an explicit cast.
    fn takes(self, given: &DataType) -> bool {
        use DataType::{
            Boolean, Date32, Decimal128, Float32, Float64, Int16, Int32, Int64, Null, Timestamp,
        };
        let is_text = matches!(given, DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
        if matches!(given, Null) {
            return true;
        }
        match self {
            // Everything but intervals is written where a string is wanted.
            Self::Text => !matches!(given, DataType::Interval(IntervalUnit::MonthDayNano)),
            Self::Integer | Self::BigInt => is_text || matches!(given, Int16 | Int32 | Int64),
            Self::Double => {
                is_text
                    || matches!(given, Int16 | Int32 | Int64 | Float32 | Float64 | Decimal128(..))
            }
            Self::Boolean => is_text || matches!(given, Boolean),
            Self::Date | Self::Timestamp | Self::TimestampTz => {
                is_text || matches!(given, Date32 | Timestamp(..))
            }
        }
    }
}

/// Computes a function over arrays of equal length and of the types that were declared.
pub(super) type Compute = fn(&[ArrayRef]) -> Result<ArrayRef>;

/// A function.
#[derive(Debug, Clone, Copy)]
pub(super) struct Definition {
    /// Its name.
    pub(super) name: &'static str,
    /// The argument lists it takes, told apart by length.
    pub(super) takes: &'static [&'static [Kind]],
    /// Its type.
    pub(super) gives: Kind,
    /// How it is computed.
    pub(super) compute: Compute,
}

/// The function for plans.
pub(super) fn function(definition: Definition) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(RowFunction { definition, signature })
}

#[derive(Debug)]
struct RowFunction {
    definition: Definition,
    signature: Signature,
}

// There is one definition of each name.
impl PartialEq for RowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name
    }
}

impl Eq for RowFunction {}

impl Hash for RowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl ScalarUDFImpl for RowFunction {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        let arguments: Vec<String> = args.iter().map(ToString::to_string).collect();
        Ok(format!("{}({})", self.definition.name, arguments.join(", ")))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let fitting = self.definition.takes.iter().find(|kinds| {
            kinds.len() == arg_types.len()
                && kinds.iter().zip(arg_types).all(|(kind, given)| kind.takes(given))
        });
        match fitting {
            Some(kinds) => Ok(kinds.iter().map(|kind| kind.arrow_type()).collect()),
            None => plan_err!("no such arguments"),
        }
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.definition.gives.arrow_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args.args, args.number_rows, self.definition.compute)
    }
}

/// Computes over columns and constants; the answer is constant if all arguments are.
pub(super) fn invoke(
    arguments: &[ColumnarValue],
    rows: usize,
    compute: impl Fn(&[ArrayRef]) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let is_constant = arguments.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
    let rows = if is_constant { 1 } else { rows };
    let arrays = arguments
        .iter()
        .map(|argument| argument.clone().into_array(rows))
        .collect::<Result<Vec<ArrayRef>>>()?;
    let computed = compute(&arrays)?;
    if is_constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&computed, 0)?));
    }
    Ok(ColumnarValue::Array(computed))
}

/// Computes each row; one with a NULL argument is NULL.
pub(super) fn rows<T>(
    arrays: &[ArrayRef],
    mut compute: impl FnMut(usize) -> Result<T>,
) -> Result<Vec<Option<T>>> {
    let length = arrays.first().map_or(1, |array| array.len());
    (0..length)
        .map(|row| {
            if arrays.iter().any(|array| array.is_null(row)) {
                return Ok(None);
            }
            compute(row).map(Some)
        })
        .collect()
}
