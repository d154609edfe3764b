//! Lets a running query be stopped inside a join.
//!
//! A task is aborted only where it gives control back. A join without an equality, or with many
//! rows of one key, can work for minutes on a single batch of its input: operators above it poll it
//! in a loop, the cooperation of the scans below it is never asked for, and within one poll a
//! filter may reject every pair of rows. So [`stoppable`] puts a [`CooperativeExec`] on each join,
//! which gives control back after some batches of output, and a check into each join filter, which
//! fails once nobody wants the result. Each process does so for what it runs itself: the leader for its
//! part of a plan, a node for each task, whose end its [`QueryEnd`] tells.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion_distributed::NetworkBoundaryExt as _;

use super::cancel::QueryEnd;

/// Held by whoever wants the result: dropped, it stops the joins of the plan.
#[derive(Debug)]
pub struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        // Nothing else is published with the flag.
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The same plan with joins that stop when the second value is dropped. For one execution, and
/// after all planning: operators that are rebuilt from their properties may lose the checks.
///
/// # Errors
/// Fails if an operator cannot be rebuilt, which would be a defect.
pub fn stoppable(plan: Arc<dyn ExecutionPlan>) -> Result<(Arc<dyn ExecutionPlan>, StopOnDrop)> {
    let stop = StopOnDrop(Arc::default());
    let plan = with_checks(plan, &stop.0)?;
    Ok((plan, stop))
}

/// The plan of a task with joins that stop when its query has ended.
///
/// # Errors
/// Fails if an operator cannot be rebuilt, which would be a defect.
pub(crate) fn stoppable_task(
    plan: Arc<dyn ExecutionPlan>,
    end: &QueryEnd,
) -> Result<Arc<dyn ExecutionPlan>> {
    with_checks(plan, end.flag())
}

fn with_checks(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Arc<AtomicBool>,
) -> Result<Arc<dyn ExecutionPlan>> {
    // What other nodes run is theirs to stop, and the checks cannot be sent to them.
    if plan.is_network_boundary() {
        return Ok(plan);
    }
    let children = plan.children().into_iter().map(Arc::clone);
    let children = children.map(|child| with_checks(child, stop)).collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
        let plan = match join.filter() {
            Some(filter) => join.builder().with_filter(Some(checked(filter, stop))).build_exec()?,
            None => plan,
        };
        return Ok(Arc::new(CooperativeExec::new(plan)));
    }
    if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
        let filter = join.filter().map(|filter| checked(filter, stop));
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(filter).build()?;
        return Ok(Arc::new(CooperativeExec::new(Arc::new(join))));
    }
    if plan.is::<CrossJoinExec>() || plan.is::<SortMergeJoinExec>() {
        return Ok(Arc::new(CooperativeExec::new(plan)));
    }
    Ok(plan)
}

fn checked(filter: &JoinFilter, stop: &Arc<AtomicBool>) -> JoinFilter {
    let check = StopCheck { inner: Arc::clone(filter.expression()), stop: Arc::clone(stop) };
    JoinFilter::new(Arc::new(check), filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// An expression that fails once the query was stopped.
#[derive(Debug, Clone)]
struct StopCheck {
    inner: Arc<dyn PhysicalExpr>,
    stop: Arc<AtomicBool>,
}

impl fmt::Display for StopCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PartialEq for StopCheck {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for StopCheck {}

impl Hash for StopCheck {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl PhysicalExpr for StopCheck {
    fn data_type(&self, input_schema: &Schema) -> Result<DataType> {
        self.inner.data_type(input_schema)
    }

    fn nullable(&self, input_schema: &Schema) -> Result<bool> {
        self.inner.nullable(input_schema)
    }

    fn return_field(&self, input_schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input_schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.stop.load(Ordering::Relaxed) {
            return exec_err!("the query was stopped");
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { inner: children.swap_remove(0), stop: Arc::clone(&self.stop) }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
