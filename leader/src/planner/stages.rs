//! From a plan with network boundaries to one that runs: leaves get the form of their node, stages
//! their numbers, tasks their nodes. The work is `datafusion-distributed`'s; here it is told about
//! our leaves and our nodes.

mod watched;

use std::any::Any;
use std::cmp::Ordering;
use std::fmt;
use std::hash::Hasher;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use compute::codec::NodeCodec;
use compute::error::with_sqlstate;
use compute::exchange::{EPOCH_HEADER, MEMORY_HEADER, NodeChannels};
use compute::layout::Layout;
use compute::plan::load::LoadExec;
use compute::plan::slice_scan::SliceScanExec;
use compute::plan::window_text;
use datafusion::catalog::Session;
use datafusion::common::{DFSchema, DFSchemaRef, Result, internal_err};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{QueryPlanner, SessionConfig};
use datafusion::logical_expr::{
    Expr, Extension, InvariantLevel, LogicalPlan, UserDefinedLogicalNode,
};
use datafusion::physical_plan::ExecutionPlan;
use datafusion_distributed::{
    ChannelResolver, DistributedExt, DistributedLeafExec, NetworkBoundaryExt, RouteTasksEvent,
    RouteTasksEventResponse, ScaleUpLeafNodeEvent, ScaleUpLeafNodeEventResponse,
    SessionStateBuilderExt, WorkerResolver,
};
use tokio::sync::watch;
use tonic::codegen::http::{HeaderMap, HeaderValue};
use url::Url;

pub(super) use watched::WatchedExec;

type Plan = Arc<dyn ExecutionPlan>;

/// The node that runs the tasks of each node: itself, or one that has a copy of all its rows; none if
/// there is none.
pub type StandIns = Arc<[Option<usize>]>;

/// The nodes that tasks run on, as the planner knows them.
#[derive(Debug, Clone)]
pub struct Nodes {
    /// How slices are divided among them.
    pub layout: Layout,
    /// Their addresses. Task `i` of a stage runs at the address of whoever stands in for `i`.
    pub urls: Vec<Url>,
    /// Who that is now.
    pub stand_ins: watch::Receiver<StandIns>,
    /// The way to them.
    pub channels: Arc<NodeChannels>,
    /// Of this leader; nodes refuse tasks of another.
    pub epoch: u64,
}

/// The library's planner, for plans that have their boundaries.
#[derive(Debug)]
pub(super) struct Stages {
    planner: Arc<dyn QueryPlanner + Send + Sync>,
}

impl Stages {
    /// Teaches the session about the nodes, and takes the library's planner out of it: only plans
    /// with boundaries of ours go through it.
    pub(super) fn install(
        builder: SessionStateBuilder,
        nodes: &Nodes,
    ) -> Result<(SessionStateBuilder, Self)> {
        let (layout, urls) = (nodes.layout, nodes.urls.clone());
        let stand_ins = nodes.stand_ins.clone();
        let channels: Arc<dyn ChannelResolver + Send + Sync> = Arc::clone(&nodes.channels) as _;
        let headers = headers(nodes);
        let mut builder = builder
            .with_query_planner(Arc::new(HandOver))
            .with_distributed_worker_resolver(Addresses(urls.clone()))
            .with_distributed_channel_resolver(channels)
            .with_distributed_user_codec(NodeCodec::for_leader())
            .with_distributed_passthrough_headers(headers)?
            .with_distributed_children_isolator_unions(false)?
            .with_distributed_metrics_collection(true)?
            .with_distributed_scale_up_leaf_node_handler(move |event: ScaleUpLeafNodeEvent<'_>| {
                scale_up(event, layout)
            })
            .with_distributed_route_tasks_handler(move |event: RouteTasksEvent<'_>| {
                Some(route(event.task_count, &urls, &stand_ins.borrow()))
            })
            .with_distributed_planner();
        let Some(planner) = builder.query_planner().take() else {
            return internal_err!("the planner of stages is missing");
        };
        Ok((builder, Self { planner }))
    }

    /// Makes a placed plan ready to run. A plan without boundaries is ready.
    pub(super) async fn finish(&self, plan: Plan, session: &dyn Session) -> Result<Plan> {
        let plan = window_text::shrink(plan)?;
        if !has_boundary(&plan) {
            return Ok(plan);
        }
        let node = Arc::new(Placed(plan));
        let handed = LogicalPlan::Extension(Extension { node });
        let stages = self.planner.create_physical_plan(&handed, session).await?;
        Ok(Arc::new(WatchedExec::new(stages)))
    }
}

/// What is sent with every task.
fn headers(nodes: &Nodes) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(EPOCH_HEADER, HeaderValue::from(nodes.epoch));
    headers
}

/// The tasks of a query with this configuration share `memory_bytes` on each node.
pub(super) fn grant_memory(
    config: &mut SessionConfig,
    nodes: &Nodes,
    memory_bytes: usize,
) -> Result<()> {
    let mut headers = headers(nodes);
    headers.insert(MEMORY_HEADER, HeaderValue::from(memory_bytes));
    config.set_distributed_passthrough_headers(headers)
}

fn has_boundary(plan: &Plan) -> bool {
    plan.is_network_boundary() || plan.children().into_iter().any(has_boundary)
}

#[derive(Clone)]
struct Addresses(Vec<Url>);

impl WorkerResolver for Addresses {
    fn get_urls(&self) -> Result<Vec<Url>> {
        Ok(self.0.clone())
    }
}

/// Task `i` runs on node `i` or whoever stands in for it; the one task of a stage without tables on
/// the first that is there. Asked when the query starts: a snapshot that was taken before has
/// nothing that a stand-in does not have.
fn route(
    tasks: usize,
    urls: &[Url],
    stand_ins: &[Option<usize>],
) -> Result<RouteTasksEventResponse> {
    let address = |(node, stand_in): (usize, &Option<usize>)| match stand_in {
        Some(stand_in) => Ok(urls[*stand_in].clone()),
        None => {
            let text = format!("no compute node that is there has all rows of node {node}");
            Err(with_sqlstate("57P03", text))
        }
    };
    let addresses = match tasks {
        1 => {
            let there = stand_ins.iter().enumerate().find(|(_, stand_in)| stand_in.is_some());
            vec![address(there.unwrap_or((0, &None)))?]
        }
        tasks if tasks == urls.len() => {
            stand_ins.iter().enumerate().map(address).collect::<Result<_>>()?
        }
        _ => return internal_err!("a stage has {tasks} tasks, the cluster {} nodes", urls.len()),
    };
    Ok(RouteTasksEventResponse::new(addresses))
}

/// Gives each task the form of a leaf that reads its own node's share.
fn scale_up(
    event: ScaleUpLeafNodeEvent<'_>,
    layout: Layout,
) -> Option<Result<ScaleUpLeafNodeEventResponse>> {
    let nodes = 0..layout.nodes();
    let forms: Result<Vec<Plan>> = if let Some(scan) = event.plan.downcast_ref::<SliceScanExec>() {
        Ok(nodes.map(|node| Arc::new(scan.for_node(node)) as Plan).collect())
    } else if let Some(load) = event.plan.downcast_ref::<LoadExec>() {
        nodes.map(|node| Ok(Arc::new(load.for_node(node)?) as Plan)).collect()
    } else {
        return None;
    };
    if event.task_count != layout.nodes() {
        let tasks = event.task_count;
        return Some(internal_err!("a table is read in a stage of {tasks} tasks"));
    }
    let leaf = forms.and_then(|forms| DistributedLeafExec::try_new(Arc::clone(event.plan), forms));
    Some(leaf.map(|leaf| ScaleUpLeafNodeEventResponse::new(Arc::new(leaf))))
}

/// Hands a physical plan to the library, which asks for one where it is given a logical plan.
#[derive(Debug)]
struct HandOver;

#[async_trait]
impl QueryPlanner for HandOver {
    async fn create_physical_plan(&self, plan: &LogicalPlan, _: &dyn Session) -> Result<Plan> {
        match plan {
            LogicalPlan::Extension(extension) => {
                match extension.node.as_any().downcast_ref::<Placed>() {
                    Some(placed) => Ok(Arc::clone(&placed.0)),
                    None => internal_err!("{} is not a placed plan", extension.node.name()),
                }
            }
            _ => internal_err!("a logical plan came where a placed one was expected"),
        }
    }
}

/// A physical plan in the clothes of a logical one.
#[derive(Debug)]
struct Placed(Plan);

static NO_COLUMNS: LazyLock<DFSchemaRef> = LazyLock::new(|| Arc::new(DFSchema::empty()));

impl UserDefinedLogicalNode for Placed {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn name(&self) -> &'static str {
        "Placed"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![]
    }

    fn schema(&self) -> &DFSchemaRef {
        &NO_COLUMNS
    }

    fn check_invariants(&self, _: InvariantLevel) -> Result<()> {
        Ok(())
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![]
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Placed")
    }

    fn with_exprs_and_inputs(
        &self,
        _: Vec<Expr>,
        _: Vec<LogicalPlan>,
    ) -> Result<Arc<dyn UserDefinedLogicalNode>> {
        Ok(Arc::new(Self(Arc::clone(&self.0))))
    }

    fn dyn_hash(&self, _: &mut dyn Hasher) {}

    fn dyn_eq(&self, _: &dyn UserDefinedLogicalNode) -> bool {
        false
    }

    fn dyn_ord(&self, _: &dyn UserDefinedLogicalNode) -> Option<Ordering> {
        None
    }
}
