//! Sort keys as bytes: the rows of some key columns in Arrow's row format, ascending, NULLs last.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{ArrayRef, ArrowPrimitiveType};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::SortOptions;

use super::unfit;
use crate::error::Result;
use crate::schema::{ColumnType, TableSchema};

/// Makes bytes of keys that compare like the keys, also with those of another converter for the
/// same types. Not for files: another version of Arrow may make other bytes.
pub(crate) struct KeyConverter {
    converter: RowConverter,
}

impl KeyConverter {
    /// For key columns of these types, most significant first; at least one.
    pub(crate) fn new(types: &[ColumnType]) -> Result<KeyConverter> {
        let options = SortOptions { descending: false, nulls_first: false };
        let field = |column_type: &ColumnType| {
            SortField::new_with_options(column_type.arrow_type(), options)
        };
        let converter = RowConverter::new(types.iter().map(field).collect());
        Ok(KeyConverter { converter: converter.map_err(|error| unfit(&error))? })
    }

    /// For the sort key of a table; `None` if it has none.
    pub(crate) fn of_table(schema: &TableSchema) -> Result<Option<KeyConverter>> {
        let types: Vec<ColumnType> =
            schema.sort_key.iter().map(|column| schema.columns[*column].column_type).collect();
        if types.is_empty() { Ok(None) } else { KeyConverter::new(&types).map(Some) }
    }

    /// The keys of rows, from their key columns.
    pub(crate) fn convert(&self, keys: &[ArrayRef]) -> Result<Rows> {
        let arrays: Vec<ArrayRef> = keys.iter().map(normal_zeros).collect();
        self.converter.convert_columns(&arrays).map_err(|error| unfit(&error))
    }
}

/// Makes both zeros, and all NaNs, of a float column the same, as the packed form does.
fn normal_zeros(array: &ArrayRef) -> ArrayRef {
    fn normal<T>(array: &ArrayRef, normal: impl Fn(T::Native) -> T::Native) -> ArrayRef
    where
        T: ArrowPrimitiveType,
    {
        Arc::new(array.as_primitive::<T>().unary::<_, T>(normal))
    }
    if array.as_primitive_opt::<Float32Type>().is_some() {
        normal::<Float32Type>(array, |value| if value.is_nan() { f32::NAN } else { value + 0.0 })
    } else if array.as_primitive_opt::<Float64Type>().is_some() {
        normal::<Float64Type>(array, |value| if value.is_nan() { f64::NAN } else { value + 0.0 })
    } else {
        Arc::clone(array)
    }
}
