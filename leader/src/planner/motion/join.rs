//! Motions below joins.

use std::sync::Arc;

use compute::plan::on_task::OnTaskExec;
use compute::plan::take_slices::TakeSlicesExec;
use datafusion::common::{JoinType, Result};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::joins::{
    HashJoinExec, NestedLoopJoinExec, PartitionMode, SortMergeJoinExec,
};
use datafusion::physical_plan::{ExecutionPlanProperties, Partitioning};

use super::Locus::{Everywhere, Leader, Single, Sliced};
use super::{Locus, Motions, Plan, are_columns, divided, merge};
use crate::planner::distribution::{left_may_stay, right_may_stream};

/// The keys of one side.
type Keys = Vec<Arc<dyn PhysicalExpr>>;

impl Motions {
    pub(super) fn join(&self, plan: Plan) -> Result<(Plan, Locus)> {
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            let join_type = *join.join_type();
            if *join.partition_mode() == PartitionMode::Partitioned {
                let keys = join.on().iter().cloned().unzip();
                return self.by_partition(Arc::clone(&plan), join_type, keys);
            }
            return self.collected(Arc::clone(&plan), join_type);
        }
        if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
            let keys = join.on().iter().cloned().unzip();
            let join_type = join.join_type();
            return self.by_partition(Arc::clone(&plan), join_type, keys);
        }
        let join_type = match plan.downcast_ref::<NestedLoopJoinExec>() {
            Some(join) => *join.join_type(),
            // A cross join.
            None => JoinType::Inner,
        };
        self.collected(plan, join_type)
    }

    /// Both sides are divided by the hash of the keys; partition meets partition.
    fn by_partition(
        &self,
        plan: Plan,
        join_type: JoinType,
        (left_keys, right_keys): (Keys, Keys),
    ) -> Result<(Plan, Locus)> {
        let (left, left_locus) = self.place(Arc::clone(plan.children()[0]))?;
        let (right, right_locus) = self.place(Arc::clone(plan.children()[1]))?;
        let (left, right, out) = match (left_locus, right_locus) {
            (one, other) if one == other => (left, right, one),
            // The rows of other tasks in the whole side find no partner.
            (Sliced, Everywhere) if left_may_stay(join_type) => (left, right, Sliced),
            (Everywhere, Sliced) if right_may_stream(join_type) => (left, right, Sliced),
            (Sliced, Everywhere) => (left, own_slices(right, right_keys), Sliced),
            (Everywhere, Sliced) => (own_slices(left, left_keys), right, Sliced),
            _ => return self.in_one_task(plan, (left, left_locus), (right, right_locus)),
        };
        Ok((replace_children_if_necessary(plan, vec![left, right])?, out))
    }

    /// The left side is collected into one partition, the right side streams past it.
    fn collected(&self, plan: Plan, join_type: JoinType) -> Result<(Plan, Locus)> {
        let left = plan.children()[0];
        let left = match left.downcast_ref::<CoalescePartitionsExec>() {
            Some(collect) if left.fetch().is_none() => collect.input(),
            _ => left,
        };
        let (left, left_locus) = self.place(Arc::clone(left))?;
        let (right, right_locus) = self.place(Arc::clone(plan.children()[1]))?;
        let claims_hash = match right.output_partitioning() {
            Partitioning::Hash(keys, _) => are_columns(keys)?,
            _ => false,
        };
        let (left, right, out) = match (left_locus, right_locus) {
            (Everywhere, Everywhere) => (left, right, Everywhere),
            (Everywhere | Sliced | Single, Sliced) if right_may_stream(join_type) => {
                (self.to_all(left, left_locus)?, right, Sliced)
            }
            (Sliced, Sliced) if left_may_stay(join_type) => {
                (left, self.to_all(right, right_locus)?, Sliced)
            }
            // An inner join would hand on the right side's claim, and rows of one key be in
            // several tasks.
            (Sliced, Everywhere)
                if left_may_stay(join_type) && !(claims_hash && join_type == JoinType::Inner) =>
            {
                (left, right, Sliced)
            }
            (Sliced, Everywhere) if right_may_stream(join_type) => {
                (self.to_all(left, left_locus)?, divided(right), Sliced)
            }
            (Everywhere, Sliced) if left_may_stay(join_type) => {
                let left = Arc::new(OnTaskExec::new(0, left));
                (left as Plan, self.to_all(right, right_locus)?, Sliced)
            }
            _ => {
                let left = (left, left_locus);
                let (left, left_locus) = self.to_one(left.0, left.1)?;
                let left = (merge(left)?, left_locus);
                return self.in_one_task(plan, left, (right, right_locus));
            }
        };
        Ok((replace_children_if_necessary(plan, vec![merge(left)?, right])?, out))
    }

    fn in_one_task(
        &self,
        plan: Plan,
        left: (Plan, Locus),
        right: (Plan, Locus),
    ) -> Result<(Plan, Locus)> {
        let (left, left_locus) = self.to_one(left.0, left.1)?;
        let (right, right_locus) = self.to_one(right.0, right.1)?;
        let out = if left_locus == Leader || right_locus == Leader { Leader } else { Single };
        Ok((replace_children_if_necessary(plan, vec![left, right])?, out))
    }
}

/// Of a side that every task has, the rows that belong to the task's slices.
fn own_slices(side: Plan, keys: Keys) -> Plan {
    if side.output_partitioning().partition_count() == 1 {
        return Arc::new(OnTaskExec::new(0, side));
    }
    Arc::new(TakeSlicesExec::new(keys, side))
}
