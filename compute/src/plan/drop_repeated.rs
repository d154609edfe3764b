//! New versions of rows, each row once: between the join of an UPDATE ... FROM, which may match a row
//! several times, and the write. All versions of a row come to one partition of one task, by the hash
//! of its id, which is the last column.

use std::fmt;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
};

use super::delete_rows::{RowTarget, RowTargetProto};
use crate::row_ids::drop_repeated;

/// Passes the first row of each id on, or refuses a second one.
#[derive(Debug)]
pub struct DropRepeatedExec {
    target: RowTarget,
    input: Arc<dyn ExecutionPlan>,
}

impl DropRepeatedExec {
    /// The rows of `input`, which is partitioned by its last column, the row ids.
    pub fn new(target: RowTarget, input: Arc<dyn ExecutionPlan>) -> Self {
        Self { target, input }
    }

    pub(crate) fn to_proto(&self) -> RowTargetProto {
        self.target.to_proto()
    }

    pub(crate) fn from_proto(
        proto: &RowTargetProto,
        input: Arc<dyn ExecutionPlan>,
    ) -> Result<Self> {
        Ok(Self::new(RowTarget::from_proto(proto)?, input))
    }
}

impl DisplayAs for DropRepeatedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DropRepeatedExec")
    }
}

impl ExecutionPlan for DropRepeatedExec {
    fn name(&self) -> &'static str {
        "DropRepeatedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(self.target.clone(), children.swap_remove(0))))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let collector = self.target.collector(&context);
        Ok(drop_repeated(self.input.execute(partition, context)?, collector))
    }
}
