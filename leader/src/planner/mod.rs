//! From a bound logical plan to a physical one: DataFusion's rules with ours among them, run on a
//! thread of its own with a large stack, so that no text a client can send ends the process.

mod cardinality;
mod join_order;
mod large_limit;

use std::sync::Arc;

use compute::Node;
use compute::plan::dropped_probe::DroppedProbeRule;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use futures::executor::block_on;

use crate::error::{Error, Result};
use large_limit::LargeLimitRule;

/// The stack of a planning thread. What [`sql::Limits`] lets through is plannable on it.
pub const STACK_BYTES: usize = 64 << 20;

/// The rows of a batch: the window of a scan.
const BATCH_ROWS: usize = storage::WINDOW_ROWS;

/// Plans statements; shared by all sessions.
#[derive(Debug)]
pub struct Planner {
    state: SessionState,
}

impl Planner {
    /// A planner for a node: one partition per slice.
    pub fn new(node: &Node) -> Self {
        let mut config = SessionConfig::new()
            .with_target_partitions(node.slices())
            .with_batch_size(BATCH_ROWS)
            .with_information_schema(false)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.execution.time_zone = Some("UTC".to_owned());
        options.optimizer.filter_null_join_keys = true;
        // A sort that spills sorts what it holds in place: merging its batches would take as much
        // again for their keys, which no reservation covers.
        options.execution.sort_in_place_threshold_bytes = node.memory_bytes();
        // What a sort keeps back for its merge: a part of the share that a merge may have.
        let merge_bytes = node.memory_bytes() / 8 / node.slices().max(1);
        options.execution.sort_spill_reservation_bytes =
            merge_bytes.min(options.execution.sort_spill_reservation_bytes);
        let mut physical_rules = PhysicalOptimizer::new().rules;
        physical_rules.push(Arc::new(LargeLimitRule));
        physical_rules.push(Arc::new(DroppedProbeRule));
        let state = SessionStateBuilder::new()
            .with_default_features()
            .with_config(config)
            .with_runtime_env(node.runtime_env())
            .with_optimizer_rules(sql::rewrite::optimizer_rules())
            .with_physical_optimizer_rules(physical_rules)
            .build();
        Self { state }
    }

    /// The state that execution contexts are made from.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// Optimizes a bound plan and makes it executable.
    pub fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.optimize(plan)?;
        let planned = self.state.query_planner().create_physical_plan(&plan, &self.state);
        Ok(block_on(planned)?)
    }

    /// Type coercion, simplification, decorrelation, join order.
    pub fn optimize(&self, plan: &LogicalPlan) -> Result<LogicalPlan> {
        let plan = self.state.optimize(plan)?;
        let reordered = join_order::reorder(plan)?;
        if !reordered.transformed {
            return Ok(reordered.data);
        }
        // The new joins carry all columns of their relations: drop what nobody needs.
        let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
            vec![Arc::new(PushDownFilter::new()), Arc::new(OptimizeProjections::new())];
        let narrow = Optimizer::with_rules(rules);
        Ok(narrow.optimize(reordered.data, &self.state, |_, _| {})?)
    }
}

/// Runs parsing, binding or planning on a blocking thread with a large stack. A panic there is an
/// error of the statement.
pub async fn on_large_stack<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = SpawnedTask::spawn_blocking(move || stacker::grow(STACK_BYTES, work));
    task.join().await.map_err(|error| {
        if error.is_panic() {
            let payload = error.into_panic();
            Error::Internal(format!("panic while planning: {}", panic_text(&*payload)))
        } else {
            Error::Canceled
        }
    })?
}

/// What a panic said.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
