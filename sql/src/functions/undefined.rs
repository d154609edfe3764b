//! A stand-in for a function that does not exist, so that the error can name the types of its
//! arguments: the planner knows them only after it has a function.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    TypeSignature, Volatility,
};

use crate::error::undefined_function;
use crate::types::type_name;

/// A function of that name whose type is an error.
pub(crate) fn undefined(name: &str) -> ScalarUDF {
    let any = TypeSignature::OneOf(vec![TypeSignature::Nullary, TypeSignature::VariadicAny]);
    ScalarUDF::from(Undefined {
        name: name.to_owned(),
        signature: Signature::new(any, Volatility::Volatile),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Undefined {
    name: String,
    signature: Signature,
}

impl ScalarUDFImpl for Undefined {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let types: Vec<String> = arg_types.iter().map(type_name).collect();
        Err(undefined_function(&self.name, &types).into())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types =
            args.arg_fields.iter().zip(args.scalar_arguments).map(
                |(field, constant)| match constant {
                    Some(ScalarValue::Utf8(_) | ScalarValue::Utf8View(_) | ScalarValue::Null) => {
                        "unknown".to_owned()
                    }
                    Some(ScalarValue::Int64(Some(value))) if i32::try_from(*value).is_ok() => {
                        "integer".to_owned()
                    }
                    _ => type_name(field.data_type()),
                },
            );
        Err(undefined_function(&self.name, &types.collect::<Vec<_>>()).into())
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("function {} does not exist", self.name)
    }
}
