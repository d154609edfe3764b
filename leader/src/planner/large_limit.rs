//! ORDER BY with a limit too large to keep its rows in memory.
//!
//! With a limit DataFusion's sort keeps the best rows in a heap, which cannot spill. Beyond
//! [`HEAP_ROWS_MAX`] the whole input is sorted instead, which can, and the limit is taken after it.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::limit::LocalLimitExec;
use datafusion::physical_plan::sorts::sort::SortExec;

/// The largest limit whose rows are kept in a heap.
const HEAP_ROWS_MAX: usize = 100_000;

/// Sorts everything where the limit is large.
#[derive(Debug)]
pub(super) struct LargeLimitRule;

impl PhysicalOptimizerRule for LargeLimitRule {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some(sort) = node.downcast_ref::<SortExec>() else {
                return Ok(Transformed::no(node));
            };
            match sort.fetch() {
                Some(rows) if rows > HEAP_ROWS_MAX => {
                    let whole = Arc::new(sort.with_fetch(None));
                    let limited: Arc<dyn ExecutionPlan> =
                        Arc::new(LocalLimitExec::new(whole, rows));
                    Ok(Transformed::yes(limited))
                }
                _ => Ok(Transformed::no(node)),
            }
        })
        .data()
    }

    fn name(&self) -> &str {
        "large_limit"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
