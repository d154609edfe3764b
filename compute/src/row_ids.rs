//! The rows that a statement deletes: collected from a column of row ids while a plan runs.
//!
//! DELETE's plan gives row ids only ([`collect_row_ids`]); UPDATE's gives the new rows with the ids of
//! the rows that they replace, in the last column ([`take_row_ids`]). A join may give a row more than
//! once: the first one counts, whole, or the statement is refused ([`Repeated`]).
//!
//! Ids are bits of one bitmap per segment, so that the collector takes a bit per row of the segments
//! that are hit, in the query's memory, whatever the order of the ids.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::common::runtime::JoinSet;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{RecordBatchStream, SendableRecordBatchStream};
use futures::{Stream, StreamExt};
use parking_lot::Mutex;
use storage::ids::{RowId, SegmentId};
use storage::row_set::RowSet;

use crate::error::with_sqlstate;
use crate::plan::guard::guard;
use crate::table::TableVersion;

/// What happens to a row that comes more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeated {
    /// The first one counts.
    FirstCounts,
    /// The statement fails, as MERGE does.
    Refused,
    /// It cannot come: nothing is joined with the target.
    Never,
}

/// The number of rows of each segment that ids may be of.
pub type SegmentRows = HashMap<SegmentId, u64>;

/// The segments of a version, for its row ids.
pub fn segment_rows(version: &TableVersion) -> SegmentRows {
    let segments = version.slices.iter().flatten();
    segments.map(|segment| (segment.id, segment.row_count)).collect()
}

/// Collects row ids; shared by the partitions of a plan.
#[derive(Debug)]
pub struct RowCollector {
    known: SegmentRows,
    repeated: Repeated,
    collected: Mutex<Collected>,
}

#[derive(Debug)]
struct Collected {
    bitmaps: HashMap<SegmentId, Vec<u64>>,
    reservation: MemoryReservation,
}

impl RowCollector {
    /// Nothing is collected yet; ids are of the rows of these segments.
    pub fn new(known: SegmentRows, repeated: Repeated, pool: &Arc<dyn MemoryPool>) -> Arc<Self> {
        let reservation = MemoryConsumer::new("row ids").register(pool);
        let collected = Mutex::new(Collected { bitmaps: HashMap::new(), reservation });
        Arc::new(Self { known, repeated, collected })
    }

    /// Takes the ids of a column in; for each one whether it is new.
    pub fn insert(&self, ids: &dyn Array) -> Result<BooleanArray> {
        let Some(ids) = ids.as_primitive_opt::<Int64Type>() else {
            return internal_err!("row ids are {}", ids.data_type());
        };
        if ids.null_count() > 0 {
            return internal_err!("a row that is deleted has no id");
        }
        let mut collected = self.collected.lock();
        let mut is_new = Vec::with_capacity(ids.len());
        for id in ids.values() {
            let RowId { segment, row } = RowId::unpack(id.cast_unsigned());
            is_new.push(collected.insert(&self.known, segment, row)?);
        }
        match self.repeated {
            Repeated::FirstCounts => {}
            Repeated::Refused | Repeated::Never if !is_new.contains(&false) => {}
            Repeated::Refused => {
                let message = "Found multiple matches to update the same tuple.";
                return Err(with_sqlstate("XX000", message));
            }
            Repeated::Never => return internal_err!("a row came twice without a join"),
        }
        Ok(BooleanArray::from(is_new))
    }

    /// What was collected, segment by segment in the order of their ids.
    pub fn finish(&self) -> Vec<(SegmentId, RowSet)> {
        let mut collected = self.collected.lock();
        let bitmaps = std::mem::take(&mut collected.bitmaps);
        let to_set = |(segment, words): (SegmentId, Vec<u64>)| {
            let mut set = RowSet::new(self.known.get(&segment).copied().unwrap_or(0));
            set.insert(&rows_of(&words));
            (segment, set)
        };
        let mut sets: Vec<_> = bitmaps.into_iter().map(to_set).collect();
        collected.reservation.free();
        sets.sort_unstable_by_key(|(segment, _)| *segment);
        sets
    }
}

impl Collected {
    fn insert(&mut self, known: &SegmentRows, segment: SegmentId, row: u32) -> Result<bool> {
        let words = match self.bitmaps.get_mut(&segment) {
            Some(words) => words,
            None => {
                let Some(rows) = known.get(&segment) else {
                    return internal_err!("a row is of the unknown segment {}", segment.0);
                };
                let words = usize::try_from(rows.div_ceil(64)).unwrap_or(usize::MAX);
                self.reservation.try_grow(words * size_of::<u64>())?;
                self.bitmaps.entry(segment).or_insert_with(|| vec![0; words])
            }
        };
        let Some(word) = words.get_mut(row as usize / 64) else {
            return internal_err!("segment {} has no row {row}", segment.0);
        };
        let bit = 1 << (row % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        Ok(is_new)
    }
}

fn rows_of(words: &[u64]) -> Vec<u32> {
    let mut rows = Vec::new();
    for (word, base) in words.iter().zip((0u32..).step_by(64)) {
        let mut left = *word;
        while left != 0 {
            rows.push(base + left.trailing_zeros());
            left &= left - 1;
        }
    }
    rows
}

/// Reads streams of one column of row ids to their end, at the same time.
pub async fn collect_row_ids(
    inputs: Vec<SendableRecordBatchStream>,
    collector: &Arc<RowCollector>,
) -> Result<()> {
    let mut readers = JoinSet::new();
    for input in inputs {
        let collector = Arc::clone(collector);
        let mut input = guard(input);
        readers.spawn(async move {
            while let Some(batch) = input.next().await {
                let batch = batch?;
                if batch.num_columns() != 1 {
                    return internal_err!("row ids came with other columns");
                }
                collector.insert(batch.column(0))?;
            }
            Ok(())
        });
    }
    // An error drops the set, which stops the other readers.
    while let Some(reader) = readers.join_next().await {
        reader.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
    }
    Ok(())
}

/// The rows of a stream without their last column, the row ids, which are collected. A row whose id
/// is not new is left out.
pub fn take_row_ids(
    input: SendableRecordBatchStream,
    collector: Arc<RowCollector>,
) -> Result<SendableRecordBatchStream> {
    let columns = input.schema().fields().len().saturating_sub(1);
    let schema: SchemaRef = Arc::new(input.schema().project(&(0..columns).collect::<Vec<_>>())?);
    Ok(Box::pin(RowIdStream { input, collector, schema, keeps_ids: false }))
}

/// The rows of a stream with their row ids, without those whose id came before.
pub(crate) fn drop_repeated(
    input: SendableRecordBatchStream,
    collector: Arc<RowCollector>,
) -> SendableRecordBatchStream {
    let schema = input.schema();
    Box::pin(RowIdStream { input, collector, schema, keeps_ids: true })
}

struct RowIdStream {
    input: SendableRecordBatchStream,
    collector: Arc<RowCollector>,
    schema: SchemaRef,
    keeps_ids: bool,
}

impl RowIdStream {
    fn pass(&self, batch: RecordBatch) -> Result<RecordBatch> {
        let Some(last) = batch.num_columns().checked_sub(1) else {
            return internal_err!("rows came without their ids");
        };
        let is_new = self.collector.insert(batch.column(last))?;
        let rows =
            if self.keeps_ids { batch } else { batch.project(&(0..last).collect::<Vec<_>>())? };
        if is_new.true_count() == is_new.len() {
            return Ok(rows);
        }
        Ok(filter_record_batch(&rows, &is_new)?)
    }
}

impl Stream for RowIdStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = self.input.poll_next_unpin(context);
        polled.map(|batch| batch.map(|batch| self.pass(batch?)))
    }
}

impl RecordBatchStream for RowIdStream {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    fn collector(repeated: Repeated) -> Arc<RowCollector> {
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let known = SegmentRows::from([(SegmentId(3), 200), (SegmentId(5), 70_000)]);
        RowCollector::new(known, repeated, &pool)
    }

    fn ids(rows: &[(u64, u32)]) -> Int64Array {
        let pack = |(segment, row): &(u64, u32)| {
            RowId { segment: SegmentId(*segment), row: *row }.pack().cast_signed()
        };
        rows.iter().map(pack).collect::<Vec<_>>().into()
    }

    #[test]
    fn rows_are_collected_once_whatever_their_order() {
        let collector = collector(Repeated::FirstCounts);
        let first = collector.insert(&ids(&[(5, 69_999), (3, 64), (3, 63), (5, 0)])).unwrap();
        assert_eq!(first.true_count(), 4);
        let second = collector.insert(&ids(&[(3, 63), (3, 0), (3, 0)])).unwrap();
        assert_eq!(second, BooleanArray::from(vec![false, true, false]));
        let sets = collector.finish();
        let rows: Vec<(u64, Vec<u32>)> =
            sets.iter().map(|(segment, set)| (segment.0, set.rows().collect())).collect();
        assert_eq!(rows, [(3, vec![0, 63, 64]), (5, vec![0, 69_999])]);
    }

    #[test]
    fn ids_that_cannot_be_are_refused() {
        let collector = collector(Repeated::Refused);
        collector.insert(&ids(&[(3, 1)])).unwrap();
        for wrong in [(3, 1), (3, 256), (4, 0)] {
            assert!(collector.insert(&ids(&[wrong])).is_err(), "{wrong:?}");
        }
        assert!(collector.insert(&Int64Array::from(vec![None])).is_err());
    }
}
