//! Operators of ours in the place of DataFusion's, where these do not keep to the memory of a query.
//!
//! Each process does so for what it runs itself. To whoever looks at the plan, the operator is the
//! one that it stands for.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion_distributed::NetworkBoundaryExt as _;

use super::repartition::BoundedRepartitionExec;
use super::sort::BoundedSortExec;

/// The same plan with sorts and repartitions that keep to their memory. For one execution, and
/// after all planning.
///
/// Left as they are: a sort that gives a number of its first rows only, and a repartition that
/// merges sorted inputs.
///
/// # Errors
/// Fails if an operator cannot be rebuilt, which would be a defect.
pub fn bounded(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    // What other nodes run is theirs to prepare.
    if plan.is_network_boundary() {
        return Ok(plan);
    }
    let children = plan.children().into_iter().map(Arc::clone);
    let children = children.map(bounded).collect::<Result<Vec<_>>>()?;
    let plan =
        if children.is_empty() { plan } else { replace_children_if_necessary(plan, children)? };
    if plan.downcast_ref::<SortExec>().is_some_and(|sort| sort.fetch().is_none()) {
        return Ok(Arc::new(BoundedSortExec::new(plan)));
    }
    if plan.downcast_ref::<RepartitionExec>().is_some_and(|exec| !exec.preserve_order()) {
        return Ok(Arc::new(BoundedRepartitionExec::new(plan)));
    }
    Ok(plan)
}
