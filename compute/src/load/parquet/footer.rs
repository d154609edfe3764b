//! The footer of a Parquet file: is it one, has it the table's columns, and where are its row
//! groups.

use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

use super::super::error::LoadError;
use super::super::request::TargetColumn;
use super::convert::Step;
use super::guarded;
use crate::object_storage::Bucket;

/// Bytes of the first read from the end of a file.
const TAIL_BYTES: u64 = 64 << 10;
/// Bytes of a footer.
const FOOTER_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a row group, as it lies in the file: it is held in memory as a whole.
const ROW_GROUP_BYTES_MAX: u64 = 2 << 30;

/// A file whose columns fit.
pub(in super::super) struct ParquetFile {
    pub(super) metadata: ArrowReaderMetadata,
    /// How each column gets to the table's type.
    pub(super) steps: Vec<Step>,
    pub(in super::super) row_groups: Vec<RowGroup>,
}

/// A row group of a file.
#[derive(Clone, Debug)]
pub(in super::super) struct RowGroup {
    pub(in super::super) index: usize,
    /// Where its pages lie.
    pub(in super::super) range: Range<u64>,
    /// Rows of the file before it.
    pub(in super::super) first_row: u64,
    pub(in super::super) row_count: u64,
}

/// Reads and checks the footer.
pub(in super::super) async fn open(
    bucket: &Bucket,
    object: &ObjectMeta,
    columns: &[TargetColumn],
) -> Result<ParquetFile, LoadError> {
    let file = bucket.url(object.location.as_ref());
    let damaged = |reason: String| LoadError::Damaged { file: file.clone(), reason };
    let metadata = Arc::new(read_footer(bucket, object, &file).await?);
    let data_columns = metadata.file_metadata().schema_descr().root_schema().get_fields().len();
    if data_columns != columns.len() {
        let table = columns.len();
        return Err(LoadError::ColumnCount { file, table, data: data_columns });
    }
    let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = guarded(|| ArrowReaderMetadata::try_new(Arc::clone(&metadata), options()))
        .map_err(damaged)?;
    check_nested(&file, plain.schema(), &metadata, columns)?;
    let wanted = wanted_schema(&metadata, plain.schema(), columns);
    let typed = guarded(|| {
        ArrowReaderMetadata::try_new(Arc::clone(&metadata), options().with_schema(wanted))
    })
    .map_err(damaged)?;
    let mut steps = Vec::with_capacity(columns.len());
    for (field, column) in typed.schema().fields().iter().zip(columns) {
        let Some(step) = Step::between(field.data_type(), column.column_type) else {
            return Err(incompatible(&file, column, field));
        };
        steps.push(step);
    }
    let row_groups = row_groups(&metadata, object.size).map_err(damaged)?;
    Ok(ParquetFile { metadata: typed, steps, row_groups })
}

async fn read_footer(
    bucket: &Bucket,
    object: &ObjectMeta,
    file: &str,
) -> Result<ParquetMetaData, LoadError> {
    let mut tail_bytes = TAIL_BYTES.min(object.size);
    loop {
        let tail = bucket.read(object, object.size - tail_bytes..object.size).await?;
        let mut reader = ParquetMetaDataReader::new();
        let mut needed = None;
        let parsed = guarded(|| match reader.try_parse_sized(&tail, object.size) {
            Err(ParquetError::NeedMoreData(bytes)) => {
                needed = Some(bytes as u64);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(()) => reader.finish().map(Some),
        });
        let damaged = |reason| Err(LoadError::Damaged { file: file.to_owned(), reason });
        match (parsed, needed) {
            (Ok(Some(metadata)), _) => return Ok(metadata),
            (Ok(None), Some(bytes))
                if bytes > tail_bytes && bytes <= FOOTER_BYTES_MAX.min(object.size) =>
            {
                tail_bytes = bytes;
            }
            (Ok(None), _) => return damaged("the Parquet footer has a wrong length".to_owned()),
            (Err(reason), _) => return damaged(reason),
        }
    }
}

/// One leaf for every column, or a message about the column that is nested.
fn check_nested(
    file: &str,
    schema: &SchemaRef,
    metadata: &ParquetMetaData,
    columns: &[TargetColumn],
) -> Result<(), LoadError> {
    for (field, column) in schema.fields().iter().zip(columns) {
        if field.data_type().is_nested() {
            return Err(incompatible(file, column, field));
        }
    }
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    if leaves == columns.len() && schema.fields().len() == columns.len() {
        return Ok(());
    }
    let (table, data) = (columns.len(), leaves);
    Err(LoadError::ColumnCount { file: file.to_owned(), table, data })
}

fn incompatible(file: &str, column: &TargetColumn, field: &Field) -> LoadError {
    LoadError::Incompatible {
        file: file.to_owned(),
        column: column.name.clone(),
        column_type: column.type_name.to_uppercase(),
        parquet: format!("{}: {}", field.name(), field.data_type()),
    }
}

/// As the decoder would read the file, but strings as views, and INT96 in microseconds, since
/// nanoseconds reach only from 1677 to 2262.
fn wanted_schema(
    metadata: &ParquetMetaData,
    plain: &SchemaRef,
    columns: &[TargetColumn],
) -> SchemaRef {
    let leaves = metadata.file_metadata().schema_descr().columns();
    let fields = plain.fields().iter().zip(leaves).zip(columns).map(|((field, leaf), column)| {
        let is_text = matches!(column.column_type, storage::schema::ColumnType::Text);
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            // Some writers do not say that their strings are strings.
            DataType::Binary if is_text => DataType::Utf8View,
            DataType::Timestamp(_, zone) if leaf.physical_type() == PhysicalType::INT96 => {
                DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            other => other.clone(),
        };
        Field::new(field.name(), data_type, field.is_nullable())
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn row_groups(metadata: &ParquetMetaData, size: u64) -> Result<Vec<RowGroup>, String> {
    let mut first_row = 0_u64;
    let mut found = Vec::with_capacity(metadata.num_row_groups());
    for (index, group) in metadata.row_groups().iter().enumerate() {
        let row_count = u64::try_from(group.num_rows())
            .map_err(|_| format!("row group {index} has a negative number of rows"))?;
        if row_count == 0 {
            continue;
        }
        let (start, end) = guarded(|| {
            let ranges = group.columns().iter().map(|column| column.byte_range());
            Ok(ranges.fold((u64::MAX, 0), |(start, end), (from, length)| {
                (start.min(from), end.max(from.saturating_add(length)))
            }))
        })?;
        if start >= end || end > size {
            return Err(format!("row group {index} lies outside of the file"));
        }
        if end - start > ROW_GROUP_BYTES_MAX {
            return Err(format!(
                "row group {index} has more than {ROW_GROUP_BYTES_MAX} bytes; write smaller ones"
            ));
        }
        found.push(RowGroup { index, range: start..end, first_row, row_count });
        first_row = first_row.checked_add(row_count).ok_or("too many rows")?;
    }
    let declared = metadata.file_metadata().num_rows();
    if i64::try_from(first_row) != Ok(declared) {
        return Err(format!("the file says it has {declared} rows, its row groups {first_row}"));
    }
    Ok(found)
}
