//! Answers that the leader makes itself: a few rows of text.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::StreamExt as _;

use crate::error::{Error, Result};
use crate::pgwire::backend::Execution;

/// A schema of text columns.
pub(super) fn text_schema(names: &[&str]) -> SchemaRef {
    let field = |name: &&str| Field::new(*name, DataType::Utf8, true);
    Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
}

/// Rows of text under a schema of [`text_schema`]; each inner list is a column.
pub(super) fn text_rows(
    schema: SchemaRef,
    columns: Vec<Vec<String>>,
    tag: &'static str,
) -> Result<Execution> {
    let array = |column: Vec<String>| Arc::new(StringArray::from(column)) as ArrayRef;
    let columns = columns.into_iter().map(array).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)
        .map_err(|e| Error::Internal(e.to_string()))?;
    let stream = futures::stream::once(async move { Ok(batch) }).boxed();
    Ok(Execution::Rows { schema, stream, tag })
}
