//! The top of a task's plan: what divides its rows among those who ask for them.
//!
//! It is said by whoever asks first; all ask for the same. `datafusion-distributed` would make it of
//! DataFusion's operators, also where ours are in the plan ([`crate::plan::bounded`]).

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties as _};
use datafusion_distributed::{BroadcastExec, MaybeEncoded};

use super::messages::Head;
use crate::plan::bounded::bounded_repartition;

/// The plan with this top, in the place of the one that it came with.
pub(super) fn with_head(
    plan: Arc<dyn ExecutionPlan>,
    head: Head,
    context: &TaskContext,
) -> Result<Arc<dyn ExecutionPlan>> {
    let input = if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
        Arc::clone(repartition.input())
    } else if let Some(broadcast) = plan.downcast_ref::<BroadcastExec>() {
        Arc::clone(broadcast.input())
    } else {
        plan
    };
    Ok(match head {
        Head::Plain(_) => input,
        Head::Broadcast(partitions) => {
            let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
            let of_input = input.output_partitioning().partition_count().max(1);
            Arc::new(BroadcastExec::new(input, partitions / of_input))
        }
        Head::Repartition(partitioning) => {
            let partitioning = MaybeEncoded::Encoded(partitioning);
            let partitioning = partitioning.decode(input.schema(), context)?;
            bounded_repartition(Arc::new(RepartitionExec::try_new(input, partitioning)?))
        }
    })
}
