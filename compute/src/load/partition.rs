//! One partition of a load: takes work, reads it, takes more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int32Type};
use bytes::Bytes;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use super::error::LoadError;
use super::parquet::{RowGroupReader, fetch_row_group};
use super::plan::{Load, Work};
use super::request::CountedColumn;
use super::text::{ByteSource, TextReader, fetch};

/// The batches of one partition.
pub(super) fn stream(load: Arc<Load>, number: usize) -> SendableRecordBatchStream {
    let schema = Arc::clone(&load.request.schema);
    let partition = Partition { load, number, rows: 0, current: None, ahead: None };
    let batches = futures::stream::try_unfold(partition, |mut partition| async move {
        let next = partition.next_batch().await.map_err(DataFusionError::from)?;
        Ok(next.map(|batch| (batch, partition)))
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, batches))
}

struct Partition {
    load: Arc<Load>,
    number: usize,
    /// Rows so far.
    rows: u64,
    current: Option<(usize, Reader)>,
    ahead: Option<Opened>,
}

/// Work whose bytes are on their way.
struct Opened {
    work: Work,
    bytes: OpenedBytes,
}

enum OpenedBytes {
    Text(ByteSource),
    RowGroup(SpawnedTask<Result<Bytes, LoadError>>),
}

enum Reader {
    Text(Box<TextReader>),
    RowGroup(Box<RowGroupReader>),
}

impl Partition {
    async fn next_batch(&mut self) -> Result<Option<RecordBatch>, LoadError> {
        loop {
            let Some((file, reader)) = &mut self.current else {
                let ahead = self.ahead.take();
                let Some(opened) =
                    ahead.or_else(|| self.load.take_work().map(|work| self.load.open(work)))
                else {
                    return Ok(None);
                };
                self.ahead = self.load.take_work_ahead().map(|work| self.load.open(work));
                self.current = Some((opened.work.file(), self.load.start(opened).await?));
                continue;
            };
            let columns = match reader {
                Reader::Text(reader) => reader.next_columns().await?,
                Reader::RowGroup(reader) => reader.next_columns()?,
            };
            let Some(columns) = columns else {
                self.load.finish_work();
                self.current = None;
                continue;
            };
            let row_count = columns.first().map_or(0, |column| column.len());
            let counted = self.load.counted(self.number, self.rows, row_count)?;
            self.rows += row_count as u64;
            let batch = self.load.whole_rows(columns, counted)?;
            let rows = &self.load.files[*file].rows;
            rows.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            return Ok(Some(batch));
        }
    }
}

impl Load {
    /// Starts to fetch.
    fn open(&self, work: Work) -> Opened {
        let bucket = self.bucket.clone();
        let object = self.files[work.file()].object.clone();
        let bytes = match &work {
            Work::Text { part, .. } => {
                OpenedBytes::Text(fetch(bucket, object, TextReader::fetch_range(part)))
            }
            Work::RowGroup { group, .. } => {
                let group = group.clone();
                OpenedBytes::RowGroup(SpawnedTask::spawn(async move {
                    fetch_row_group(&bucket, &object, &group).await
                }))
            }
        };
        Opened { work, bytes }
    }

    async fn start(&self, opened: Opened) -> Result<Reader, LoadError> {
        let request = Arc::clone(&self.request);
        let file = &self.files[opened.work.file()];
        match (opened.work, opened.bytes) {
            (Work::Text { part, .. }, OpenedBytes::Text(source)) => {
                let (bucket, object) = (self.bucket.clone(), file.object.clone());
                let reader = TextReader::new(request, bucket, object, part, source)?;
                Ok(Reader::Text(Box::new(reader)))
            }
            (Work::RowGroup { file: index, group }, OpenedBytes::RowGroup(fetched)) => {
                let bytes = fetched.join().await.map_err(|error| {
                    LoadError::Incomplete(format!("reading a row group stopped: {error}"))
                })??;
                let parquet = file.parquet.as_ref().map(Arc::clone).ok_or_else(|| {
                    LoadError::Incomplete("a row group without a footer".to_owned())
                })?;
                let url = self.url(index);
                let reader = RowGroupReader::new(request, parquet, url, group, bytes)?;
                Ok(Reader::RowGroup(Box::new(reader)))
            }
            (Work::Text { .. }, OpenedBytes::RowGroup(_))
            | (Work::RowGroup { .. }, OpenedBytes::Text(_)) => {
                Err(LoadError::Incomplete("work and bytes of two kinds".to_owned()))
            }
        }
    }

    /// The columns that count, for rows of a partition after its first `before`.
    fn counted(
        &self,
        partition: usize,
        before: u64,
        row_count: usize,
    ) -> Result<Vec<(usize, ArrayRef)>, LoadError> {
        let mut arrays = Vec::with_capacity(self.request.counted.len());
        for CountedColumn { position, first, step } in &self.request.counted {
            let is_short = self.request.schema.field(*position).data_type() == &DataType::Int32;
            let value = |row: u64| {
                let number = self.row_number(partition, before + row);
                let value = i128::from(*first) + i128::from(*step) * i128::from(number);
                let long = i64::try_from(value).ok();
                long.filter(|long| !is_short || i32::try_from(*long).is_ok()).ok_or_else(|| {
                    LoadError::Options(format!("identity value {value} is out of range"))
                })
            };
            let values = (0..row_count as u64).map(value).collect::<Result<Vec<i64>, _>>()?;
            let values = Int64Array::from(values);
            let array: ArrayRef = match is_short {
                true => Arc::new(values.unary::<_, Int32Type>(|long| long as i32)),
                false => Arc::new(values),
            };
            arrays.push((*position, array));
        }
        Ok(arrays)
    }

    /// Puts columns at their places in the table and adds those that the files do not hold.
    fn whole_rows(
        &self,
        columns: Vec<ArrayRef>,
        counted: Vec<(usize, ArrayRef)>,
    ) -> Result<RecordBatch, LoadError> {
        let defect = |error: String| LoadError::Incomplete(error);
        let row_count = columns.first().map_or(0, |column| column.len());
        let targets = self.request.columns.iter();
        let mut placed: Vec<(usize, ArrayRef)> =
            targets.map(|target| target.position).zip(columns).collect();
        for omitted in &self.request.omitted {
            let array = omitted.value.to_array_of_size(row_count);
            placed.push((omitted.position, array.map_err(|error| defect(error.to_string()))?));
        }
        placed.extend(counted);
        placed.sort_by_key(|(position, _)| *position);
        let arrays = placed.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::clone(&self.request.schema), arrays)
            .map_err(|error| defect(error.to_string()))
    }
}
