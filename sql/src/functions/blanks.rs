//! Strings as they are compared: without the blanks at their end.
//!
//! In Redshift 'abc ' = 'abc', for CHAR and for VARCHAR. What compares, groups or joins strings
//! compares what this function gives. CHAR values are kept without blanks, and columns whose values
//! are known to have none are left bare, so that the function is rarely there.

use arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use super::row_function::invoke;
use crate::types::{BLANKS_METADATA_KEY, NO_BLANKS};

/// Its name in plans.
pub(crate) const NAME: &str = "blank_stripped";

/// The function.
pub(super) fn function() -> ScalarUDF {
    ScalarUDF::from(BlankStripped {
        signature: Signature::uniform(1, vec![DataType::Utf8View], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct BlankStripped {
    signature: Signature,
}

impl ScalarUDFImpl for BlankStripped {
    fn name(&self) -> &str {
        NAME
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.first().map(|argument| format!("{NAME}({argument})")).unwrap_or_default())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = args.arg_fields.iter().any(|field| field.is_nullable());
        let mut metadata =
            args.arg_fields.first().map(|field| field.metadata().clone()).unwrap_or_default();
        metadata.insert(BLANKS_METADATA_KEY.to_owned(), NO_BLANKS.to_owned());
        Ok(Arc::new(Field::new(NAME, DataType::Utf8View, nullable).with_metadata(metadata)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke(&args.args, args.number_rows, |arrays| Ok(stripped(&arrays[0])))
    }
}

fn stripped(array: &ArrayRef) -> ArrayRef {
    let strings = array.as_string_view();
    let ends_with_blank = |row: usize| strings.is_valid(row) && strings.value(row).ends_with(' ');
    if !(0..strings.len()).any(ends_with_blank) {
        return Arc::clone(array);
    }
    let mut builder = StringViewBuilder::with_capacity(strings.len());
    for value in strings {
        builder.append_option(value.map(|value| value.trim_end_matches(' ')));
    }
    Arc::new(builder.finish())
}
