//! The leaf of a COPY: each node reads its share of the objects itself.
//!
//! As a scan it has two forms: the leader plans with the shares of all nodes, a node executes its
//! own. All partitions of a node share one queue of work; the one that ends last checks that every
//! part was read to its end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use tokio::sync::OnceCell;

use super::cancel::cancellable;
use super::guard::guard;
use crate::codec::{Decoder, missing};
use crate::error::with_sqlstate;
use crate::load::{LoadError, LoadPlan, LoadShare, LoadShareProto};
use crate::object_storage::ObjectStorage;

/// Reads the objects of a COPY.
#[derive(Debug)]
pub struct LoadExec {
    /// Of each node; on a node only its own.
    shares: Vec<Arc<LoadShare>>,
    /// On a node: where the objects are.
    objects: Option<Objects>,
    properties: Arc<PlanProperties>,
    running: Arc<Running>,
}

#[derive(Clone)]
struct Objects(Arc<ObjectStorage>);

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Objects")
    }
}

/// What the partitions of a node share.
#[derive(Default)]
struct Running {
    plan: OnceCell<LoadPlan>,
    ended: AtomicUsize,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Running")
    }
}

/// [`LoadExec`] as it travels.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct LoadProto {
    #[prost(message, optional, tag = "1")]
    share: Option<LoadShareProto>,
}

impl LoadExec {
    /// A load by all nodes, with that many streams on each.
    pub fn try_new(shares: Vec<LoadShare>, partitions: usize) -> Result<Self> {
        let shares: Vec<_> = shares.into_iter().map(Arc::new).collect();
        let Some(first) = shares.first() else { return internal_err!("a load without shares") };
        let schema = Arc::clone(&first.request().schema);
        Ok(Self::new(shares, None, &schema, partitions))
    }

    fn new(
        shares: Vec<Arc<LoadShare>>,
        objects: Option<Objects>,
        schema: &SchemaRef,
        partitions: usize,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(schema)),
            Partitioning::UnknownPartitioning(partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { shares, objects, properties: Arc::new(properties), running: Arc::default() }
    }

    /// The load that one node executes.
    pub fn for_node(&self, node: usize) -> Result<Self> {
        let Some(share) = self.shares.get(node) else {
            return internal_err!("a load has no share of node {node}");
        };
        let partitions = self.properties.partitioning.partition_count();
        Ok(Self::new(vec![Arc::clone(share)], None, &self.schema(), partitions))
    }

    pub(crate) fn to_proto(&self) -> Result<LoadProto> {
        match self.shares.as_slice() {
            [share] => Ok(LoadProto { share: Some(share.to_proto()?) }),
            _ => internal_err!("a node loads its own share only"),
        }
    }

    pub(crate) fn from_proto(proto: LoadProto, decoder: &Decoder<'_>) -> Result<Self> {
        let share = proto.share.ok_or_else(|| missing("the share of a load"))?;
        let share = LoadShare::from_proto(share)?;
        let schema = Arc::clone(&share.request().schema);
        let objects = Objects(Arc::clone(&decoder.site.objects));
        let partitions = decoder.site.node.slices();
        Ok(Self::new(vec![Arc::new(share)], Some(objects), &schema, partitions))
    }
}

/// An error of a load as it travels.
fn load_error(error: LoadError) -> DataFusionError {
    with_sqlstate("XX000", error.to_string())
}

/// A partition's rows; the last partition to end checks the whole.
async fn open(
    share: Arc<LoadShare>,
    objects: Objects,
    running: Arc<Running>,
    partition: usize,
    partitions: usize,
) -> Result<SendableRecordBatchStream> {
    let plan = running.plan.get_or_try_init(|| share.open(&objects.0, partitions));
    let rows = plan.await.map_err(load_error)?.execute(partition);
    let schema = rows.schema();
    let end = futures::stream::once(async move {
        if running.ended.fetch_add(1, Ordering::AcqRel) + 1 == partitions
            && let Some(plan) = running.plan.get()
        {
            plan.finish().map_err(load_error)?;
        }
        Ok(None)
    });
    let rows = rows.map_ok(Some).chain(end);
    let rows = rows.try_filter_map(|batch| async move { Ok(batch) });
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
}

impl DisplayAs for LoadExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "LoadExec: shares={}", self.shares.len())
            }
            DisplayFormatType::TreeRender => Ok(()),
        }
    }
}

impl ExecutionPlan for LoadExec {
    fn name(&self) -> &'static str {
        "LoadExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
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
        let (Some(objects), [share]) = (self.objects.clone(), self.shares.as_slice()) else {
            return internal_err!("only a compute node loads objects");
        };
        let partitions = self.properties.partitioning.partition_count();
        let running = Arc::clone(&self.running);
        let opened = open(Arc::clone(share), objects, running, partition, partitions);
        let rows = futures::stream::once(opened).try_flatten();
        let rows = Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows));
        Ok(guard(cancellable(rows, context.session_config())))
    }
}
