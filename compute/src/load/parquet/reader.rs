//! Decodes one row group from memory.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::util::display::array_value_to_string;
use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use object_store::ObjectMeta;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::super::error::{BadRow, ErrorCode, Fault, LoadError, raw_text};
use super::super::request::CopyRequest;
use super::footer::{ParquetFile, RowGroup};
use super::guarded;
use crate::object_storage::Bucket;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;
/// Bytes of one GET.
const CHUNK_BYTES: u64 = 8 << 20;
/// GETs at once.
const READS: usize = 4;

/// Fetches the bytes of a row group, several GETs at a time.
pub(in super::super) async fn fetch_row_group(
    bucket: &Bucket,
    object: &ObjectMeta,
    group: &RowGroup,
) -> Result<Bytes, LoadError> {
    let range = group.range.clone();
    let starts = range.clone().step_by(CHUNK_BYTES as usize);
    let reads = futures::stream::iter(starts)
        .map(|start| bucket.read(object, start..(start + CHUNK_BYTES).min(range.end)));
    let mut chunks = reads.buffered(READS);
    if range.end - range.start <= CHUNK_BYTES {
        return Ok(chunks.next().await.transpose()?.unwrap_or_default());
    }
    let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.freeze())
}

/// Reads the rows of one row group.
pub(in super::super) struct RowGroupReader {
    request: Arc<CopyRequest>,
    file: Arc<ParquetFile>,
    url: String,
    group: RowGroup,
    decoder: ParquetRecordBatchReader,
    rows_read: u64,
}

impl RowGroupReader {
    pub(in super::super) fn new(
        request: Arc<CopyRequest>,
        file: Arc<ParquetFile>,
        url: String,
        group: RowGroup,
        bytes: Bytes,
    ) -> Result<Self, LoadError> {
        let pages = Pages { start: group.range.start, bytes };
        let metadata = file.metadata.clone();
        let decoder = guarded(|| {
            ParquetRecordBatchReaderBuilder::new_with_metadata(pages, metadata)
                .with_row_groups(vec![group.index])
                .with_batch_size(BATCH_ROWS)
                .build()
        })
        .map_err(|reason| LoadError::Damaged { file: url.clone(), reason })?;
        Ok(Self { request, file, url, group, decoder, rows_read: 0 })
    }

    /// The columns of the next rows, in the order of the request; None at the end.
    pub(in super::super) fn next_columns(&mut self) -> Result<Option<Vec<ArrayRef>>, LoadError> {
        let damaged = |reason: String| LoadError::Damaged { file: self.url.clone(), reason };
        let decoder = &mut self.decoder;
        let next = guarded(|| decoder.next().transpose().map_err(ParquetError::from));
        let Some(batch) = next.map_err(damaged)? else {
            let (expected, found) = (self.group.row_count, self.rows_read);
            if expected != found {
                let index = self.group.index;
                return Err(damaged(format!(
                    "row group {index} holds {found} rows instead of {expected}"
                )));
            }
            return Ok(None);
        };
        let columns = self.convert(&batch)?;
        self.rows_read += batch.num_rows() as u64;
        Ok(Some(columns))
    }

    /// Converts all columns, or finds the first bad value of the first bad row.
    fn convert(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>, LoadError> {
        let mut first: Option<(usize, usize, Fault)> = None;
        let mut converted = Vec::with_capacity(batch.num_columns());
        for (index, array) in batch.columns().iter().enumerate() {
            let column = &self.request.columns[index];
            let found = match self.file.steps[index].apply(array, column, &self.request.conversion)
            {
                Ok(array) => match first_null(&array, column.nullable) {
                    None => {
                        converted.push(array);
                        continue;
                    }
                    Some(row) => (row, index, Fault::not_null()),
                },
                Err((row, fault)) => (row, index, fault),
            };
            if first.as_ref().is_none_or(|(row, _, _)| found.0 < *row) {
                first = Some(found);
            }
        }
        match first {
            Some((row, column, fault)) => Err(self.bad_row(batch, row, column, fault)),
            None => Ok(converted),
        }
    }

    fn bad_row(&self, batch: &RecordBatch, row: usize, column: usize, fault: Fault) -> LoadError {
        let target = &self.request.columns[column];
        let array = batch.column(column);
        let value = if array.is_null(row) {
            String::new()
        } else {
            array_value_to_string(array, row).unwrap_or_default()
        };
        LoadError::BadRow(Box::new(BadRow {
            file: self.url.clone(),
            line: self.group.first_row + self.rows_read + row as u64 + 1,
            column: target.name.clone(),
            column_type: target.type_name.clone(),
            column_bytes: target.bytes_max,
            position: 0,
            raw_value: raw_text(value.as_bytes()),
            raw_line: String::new(),
            code: fault.code,
            reason: fault.reason,
        }))
    }
}

fn first_null(array: &ArrayRef, nullable: bool) -> Option<usize> {
    if nullable || array.null_count() == 0 {
        return None;
    }
    (0..array.len()).find(|row| array.is_null(*row))
}

/// The pages of one row group, at their offsets in the file.
struct Pages {
    start: u64,
    bytes: Bytes,
}

impl Pages {
    fn at(&self, start: u64) -> Result<usize, ParquetError> {
        let offset = start.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        offset
            .filter(|offset| *offset <= self.bytes.len())
            .ok_or_else(|| ParquetError::EOF(format!("no page at {start} in its row group")))
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Pages {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.bytes.slice(self.at(start)?..).reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let from = self.at(start)?;
        let to = from.checked_add(length).filter(|to| *to <= self.bytes.len());
        let to = to.ok_or_else(|| ParquetError::EOF(format!("page at {start} is cut off")))?;
        Ok(self.bytes.slice(from..to))
    }
}

/// The code of a value that does not fit.
pub(super) fn overflow() -> Fault {
    Fault::new(ErrorCode::OutOfRange, "Numeric Overflow. Value exceeds limit")
}
