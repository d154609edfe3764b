//! Which row belongs to which slice.
//!
//! A row of a KEY table lives on slice `hash(distribution key) % slices`, computed by DataFusion's
//! own repartitioning code, so that a stored table and a repartitioned stream agree: a join or a
//! group-by on the distribution key needs no motion. A hash is only as stable as the library that
//! computes it; [`fingerprint`] tells the placement that wrote a table from the one of this
//! process, and a table with another fingerprint is planned as EVEN: slower, never wrong.

use std::sync::{Arc, LazyLock};

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, RecordBatch, StringViewArray, Time64MicrosecondArray,
    Time64NanosecondArray, TimestampMicrosecondArray,
};
use datafusion::common::Result;
use datafusion::common::hash_utils::create_hashes;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_plan::metrics::Time;
use datafusion::physical_plan::repartition::{BatchPartitioner, REPARTITION_RANDOM_STATE};

/// Splits batches of a KEY table by slice.
pub struct KeySplitter {
    partitioner: BatchPartitioner,
}

impl KeySplitter {
    /// A splitter by the column at position `key` of the batches.
    pub fn new(key: usize, name: &str, slices: usize) -> Result<Self> {
        let key: Arc<dyn PhysicalExpr> = Arc::new(Column::new(name, key));
        let partitioner =
            BatchPartitioner::new_hash_partitioner(vec![key], slices, Time::default())?;
        Ok(Self { partitioner })
    }

    /// Calls `take` with the rows of each slice that has any.
    pub fn split(
        &mut self,
        batch: RecordBatch,
        mut take: impl FnMut(usize, RecordBatch) -> Result<()>,
    ) -> Result<()> {
        self.partitioner.partition(batch, |slice, rows| {
            if rows.num_rows() == 0 {
                return Ok(());
            }
            take(slice, rows)
        })
    }
}

/// Identifies the placement hash of this process: equal fingerprints place every row alike.
pub fn fingerprint() -> u64 {
    *FINGERPRINT
}

static FINGERPRINT: LazyLock<u64> = LazyLock::new(|| {
    // A hash that fails on some type is a different placement, not a reason to stop.
    sample_hashes().unwrap_or_default().into_iter().fold(SLICE_FORMULA_VERSION, mix)
});

/// Changes when the step from hash to slice changes. `hash % slices` is 1.
const SLICE_FORMULA_VERSION: u64 = 1;

/// Order-sensitive combination (multiplier of SplitMix64).
fn mix(state: u64, value: u64) -> u64 {
    (state ^ value).wrapping_mul(0xBF58_476D_1CE4_E5B9).rotate_left(31)
}

fn sample_hashes() -> Result<Vec<u64>> {
    let mut all = Vec::new();
    for values in sample_arrays()? {
        let mut hashes = vec![0; values.len()];
        create_hashes([&values], REPARTITION_RANDOM_STATE.random_state(), &mut hashes)?;
        all.extend(hashes);
    }
    Ok(all)
}

/// Fixed values of every type that a column can have, NULL among them.
fn sample_arrays() -> Result<Vec<ArrayRef>> {
    let decimals = |scale| {
        Decimal128Array::from(vec![Some(0), Some(-1), Some(10_i128.pow(20)), None])
            .with_precision_and_scale(38, scale)
    };
    let texts = ["", "a", "exactly12byt", "thirteen byte", "a text that is not stored inline"];
    let texts = texts.into_iter().map(Some).chain([None]);
    Ok(vec![
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int16Array::from(vec![Some(0), Some(-1), Some(i16::MAX), None])),
        Arc::new(Int32Array::from(vec![Some(0), Some(-1), Some(i32::MAX), None])),
        Arc::new(Int64Array::from(vec![Some(0), Some(-1), Some(i64::MAX), None])),
        Arc::new(decimals(0)?),
        Arc::new(decimals(4)?),
        Arc::new(Float32Array::from(vec![Some(0.0), Some(-0.0), Some(1.5), None])),
        Arc::new(Float64Array::from(vec![Some(0.0), Some(-0.0), Some(1.5), None])),
        Arc::new(StringViewArray::from_iter(texts)),
        Arc::new(Date32Array::from(vec![Some(0), Some(20_000), None])),
        Arc::new(Time64MicrosecondArray::from(vec![Some(0), Some(1), None])),
        Arc::new(Time64NanosecondArray::from(vec![Some(0), Some(1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(0), Some(1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]).with_timezone("UTC")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::{DataType, Field, Schema};

    #[test]
    fn the_fingerprint_is_the_same_on_every_call_and_depends_on_order() {
        assert_eq!(fingerprint(), fingerprint());
        assert_ne!(mix(mix(1, 2), 3), mix(mix(1, 3), 2));
        assert!(sample_hashes().unwrap().len() > 40);
    }

    #[test]
    fn rows_go_where_the_hash_modulo_the_slices_says() {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter(
            (0..1000).map(|i| if i % 7 == 0 { None } else { Some(i * 31) }),
        ));
        let schema = Schema::new(vec![Field::new("k", DataType::Int64, true)]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::clone(&keys)]).unwrap();
        let mut rows = 0;
        let mut splitter = KeySplitter::new(0, "k", 3).unwrap();
        splitter
            .split(batch, |slice, part| {
                let mut hashes = vec![0; part.num_rows()];
                create_hashes(
                    part.columns(),
                    REPARTITION_RANDOM_STATE.random_state(),
                    &mut hashes,
                )?;
                assert!(hashes.iter().all(|hash| hash % 3 == slice as u64));
                rows += part.num_rows();
                Ok(())
            })
            .unwrap();
        assert_eq!(rows, 1000);
    }
}
