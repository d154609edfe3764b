//! Rows for operators that spill, and queries with little memory.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;

use crate::memory::{MemoryLimits, QueryMemory, configure_memory, runtime_env};

pub(super) const MIB: usize = 1 << 20;

/// A key, a text, and the number of the row, by which rows of equal keys can be told apart.
pub(super) type Row = (Option<i64>, Option<String>, i64);

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("number", DataType::Int64, false),
    ]))
}

pub(super) fn batch_of(rows: &[Row]) -> RecordBatch {
    let keys: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.0)));
    let texts: ArrayRef =
        Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.1.as_deref())));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2)));
    RecordBatch::try_new(schema(), vec![keys, texts, numbers]).unwrap()
}

pub(super) fn rows_of(batches: &[RecordBatch]) -> Vec<Row> {
    let mut rows = Vec::new();
    for batch in batches {
        let keys = batch.column(0).as_primitive::<Int64Type>();
        let texts = batch.column(1).as_string_view();
        let numbers = batch.column(2).as_primitive::<Int64Type>();
        for at in 0..batch.num_rows() {
            let key = keys.is_valid(at).then(|| keys.value(at));
            let text = texts.is_valid(at).then(|| texts.value(at).to_owned());
            rows.push((key, text, numbers.value(at)));
        }
    }
    rows
}

/// A query with `bytes` of memory, and where it spills to.
pub(super) fn query(
    bytes: usize,
    batch_size: usize,
) -> (QueryMemory, Arc<TaskContext>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let spill_dir = dir.path().to_owned();
    let limits = MemoryLimits { memory_bytes: bytes, spill_dir, spill_bytes_max: 1 << 40 };
    let memory = QueryMemory::new(&runtime_env(&limits).unwrap(), bytes).unwrap();
    let mut config = SessionConfig::new().with_target_partitions(1).with_batch_size(batch_size);
    configure_memory(&mut config, bytes);
    let context = TaskContext::default().with_session_config(config);
    let context = Arc::new(context.with_runtime(memory.runtime_env()));
    (memory, context, dir)
}

/// How many runs were written to the disk.
pub(super) fn spills(plan: &dyn ExecutionPlan) -> usize {
    plan.metrics().unwrap().spill_count().unwrap()
}

/// Rows in no order, with about `text_bytes` of text in each.
pub(super) fn shuffled(count: usize, text_bytes: usize) -> Vec<Row> {
    let mixed = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let row = |at: usize| {
        let text = format!("{:0width$}", mixed(at), width = text_bytes);
        ((!at.is_multiple_of(7)).then_some((mixed(at) % 50) as i64), Some(text), at as i64)
    };
    (0..count).map(row).collect()
}

pub(super) fn batches_of(rows: &[Row], batch_rows: usize) -> Vec<RecordBatch> {
    rows.chunks(batch_rows).map(batch_of).collect()
}

/// How many files are in there.
pub(super) fn files_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}
