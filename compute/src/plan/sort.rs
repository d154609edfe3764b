//! Sorts within the memory of a query.
//!
//! DataFusion's sort (55) counts the buffers of a string column once for each 8,192 rows that it
//! gives, so that rows which fit by far are refused, and holds keys for its merges that nothing
//! counts. This one keeps its input in batches with a sorted list and the encoded keys of each, all
//! of it reserved, and merges them as rows are asked for. When the pool has no more, the merged rows
//! are a run on disk; runs are merged by DataFusion's merge in as many passes as its share of memory
//! asks for.

mod external;
mod runs;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::coop::make_cooperative;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::bounded::Execute;
use external::Sorter;

/// Executes a [`SortExec`] without a limit by a [`Sorter`] for each partition.
#[derive(Debug, Default)]
pub(super) struct Sorting;

impl Execute for Sorting {
    fn execute(
        &self,
        original: &Arc<dyn ExecutionPlan>,
        partition: usize,
        context: Arc<TaskContext>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<SendableRecordBatchStream> {
        let Some(sort) = original.downcast_ref::<SortExec>() else {
            return original.execute(partition, context);
        };
        let mut input = sort.input().execute(partition, Arc::clone(&context))?;
        let order = sort.expr().clone();
        if sort.input().equivalence_properties().ordering_satisfy(order.clone())? {
            return Ok(input);
        }
        let schema = input.schema();
        let mut sorter = Sorter::new(Arc::clone(&schema), order, partition, &context, metrics)?;
        let sorted = stream::once(async move {
            while let Some(batch) = input.next().await {
                sorter.push(batch?).await?;
            }
            drop(input);
            sorter.finish().await
        });
        let sorted = RecordBatchStreamAdapter::new(schema, sorted.try_flatten());
        // What is in memory is merged without waiting for anything.
        Ok(make_cooperative(Box::pin(sorted)))
    }
}
