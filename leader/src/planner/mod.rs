//! From a bound logical plan to a physical one: DataFusion's rules with ours among them, run on a
//! thread of its own with a large stack, so that no text a client can send ends the process.
//!
//! In a cluster three more steps: [`distribution`] chooses the kinds of joins, [`motion`] puts network
//! boundaries into the finished plan, and `stages` makes tasks for nodes of it.

mod cardinality;
mod distribution;
pub(crate) mod explain;
mod group_keys;
mod join_order;
mod large_limit;
mod motion;
mod stages;

use std::sync::Arc;

use compute::PeakMemory;
use compute::cpu_share::CpuShare;
use compute::exchange::configure;
use compute::load::LoadShare;
use compute::memory::configure_memory;
use compute::plan::delete_rows::RowTarget;
use compute::plan::dropped_probe::DroppedProbeRule;
use compute::plan::load::LoadExec;
use compute::plan::window_text;
use datafusion::common::runtime::SpawnedTask;
use datafusion::execution::TaskContext;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use futures::executor::block_on;

use crate::error::{Error, Result};
use distribution::DistributionRule;
use large_limit::LargeLimitRule;
use stages::Stages;

pub(crate) use motion::WriteEnd;
pub use stages::{Nodes, StandIns};

/// The stack of a planning thread. What [`sql::Limits`] lets through is plannable on it.
pub const STACK_BYTES: usize = 64 << 20;

/// Plans statements; shared by all sessions.
#[derive(Debug)]
pub struct Planner {
    state: SessionState,
    /// None if this process is the one node.
    cluster: Option<Cluster>,
}

/// How plans are divided among nodes.
#[derive(Debug)]
struct Cluster {
    nodes: Nodes,
    stages: Stages,
}

impl Planner {
    /// A planner for the one node of a cluster: one partition per slice.
    pub fn for_node(slices: usize, runtime: Arc<RuntimeEnv>) -> Self {
        let rules = physical_rules(None);
        Self { state: builder(slices, runtime, rules).build(), cluster: None }
    }

    /// A planner for several nodes: one partition per slice of a node, and as many tasks as nodes.
    pub fn for_nodes(nodes: Nodes, runtime: Arc<RuntimeEnv>) -> Result<Self> {
        let rules = physical_rules(Some(DistributionRule { layout: nodes.layout }));
        let mut builder = builder(nodes.layout.slices_per_node(), runtime, rules);
        let options = &mut builder.config().get_or_insert_default().options_mut().optimizer;
        options.enable_round_robin_repartition = false;
        options.repartition_file_scans = false;
        options.prefer_existing_sort = false;
        options.subset_repartition_threshold = 1;
        let (builder, stages) = Stages::install(builder, &nodes)?;
        Ok(Self { state: builder.build(), cluster: Some(Cluster { nodes, stages }) })
    }

    /// The state that execution contexts are made from.
    pub fn state(&self) -> &SessionState {
        &self.state
    }

    /// The context in which a query runs that may use `memory_bytes` on each node; `runtime` is
    /// its part in this process. `cpu_share` is what it gets of the processors, here and there, if that is managed.
    pub fn context(
        &self,
        runtime: Arc<RuntimeEnv>,
        memory_bytes: usize,
        cpu_share: Option<CpuShare>,
    ) -> Result<Arc<TaskContext>> {
        let mut config = self.state.config().clone();
        configure_memory(&mut config, memory_bytes);
        if let Some(cpu_share) = cpu_share {
            config.set_extension(Arc::new(cpu_share));
        }
        if let Some(cluster) = &self.cluster {
            stages::grant_memory(&mut config, &cluster.nodes, memory_bytes)?;
        }
        let context = TaskContext::from(&self.state);
        Ok(Arc::new(context.with_session_config(config).with_runtime(runtime)))
    }

    /// Optimizes a bound plan and makes it executable.
    pub fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.source(plan)?;
        let Some(cluster) = &self.cluster else { return Ok(plan) };
        self.stages(motion::place(plan, cluster.nodes.layout)?)
    }

    /// Optimizes a bound plan whose rows will be written. With one node it is executable, with
    /// several it is what [`Planner::write`] takes.
    pub fn source(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = self.optimize(plan)?;
        let planned = self.state.query_planner().create_physical_plan(&plan, &self.state);
        let planned = block_on(planned)?;
        match &self.cluster {
            Some(_) => Ok(planned),
            None => Ok(window_text::shrink(planned)?),
        }
    }

    /// A plan that writes the rows of a source on the nodes of the cluster and returns the segments
    /// that they have made.
    pub(crate) fn write(
        &self,
        source: Arc<dyn ExecutionPlan>,
        end: &WriteEnd,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.cluster {
            Some(cluster) => self.stages(motion::place_write(source, end, cluster.nodes.layout)?),
            None => Err(Error::Internal("the one node writes by itself".into())),
        }
    }

    /// A plan that finds the rows whose ids a source gives, its last column, and tells the leader.
    pub(crate) fn delete(
        &self,
        source: Arc<dyn ExecutionPlan>,
        target: RowTarget,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.cluster {
            Some(cluster) => {
                self.stages(motion::place_delete(source, target, cluster.nodes.layout)?)
            }
            None => Err(Error::Internal("the one node finds rows by itself".into())),
        }
    }

    /// The shares of a COPY as the source of [`Planner::write`].
    pub(crate) fn load(&self, shares: Vec<LoadShare>) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.cluster {
            Some(cluster) => {
                let partitions = cluster.nodes.layout.slices_per_node();
                Ok(Arc::new(LoadExec::try_new(shares, partitions)?))
            }
            None => Err(Error::Internal("the one node loads by itself".into())),
        }
    }

    /// The same context, and the memory that a plan takes in it of this process.
    pub fn measuring_context(
        &self,
        context: &TaskContext,
    ) -> Result<(Arc<TaskContext>, Arc<PeakMemory>)> {
        let config = context.session_config().clone();
        let (runtime, memory) = PeakMemory::measure(&context.runtime_env())?;
        let context = TaskContext::from(&self.state);
        Ok((Arc::new(context.with_session_config(config).with_runtime(runtime)), memory))
    }

    fn stages(&self, placed: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        match &self.cluster {
            Some(cluster) => Ok(block_on(cluster.stages.finish(placed, &self.state))?),
            None => Ok(placed),
        }
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

/// DataFusion's physical rules and ours, in the order in which they run.
fn physical_rules(distribution: Option<DistributionRule>) -> Rules {
    let mut rules = Rules::new();
    let mut distribution = distribution;
    for rule in PhysicalOptimizer::new().rules {
        let chooses_sides = rule.name() == "join_selection";
        rules.push(rule);
        if chooses_sides && let Some(rule) = distribution.take() {
            rules.push(Arc::new(rule));
        }
    }
    rules.push(Arc::new(LargeLimitRule));
    rules.push(Arc::new(DroppedProbeRule));
    rules
}

type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

fn builder(partitions: usize, runtime: Arc<RuntimeEnv>, rules: Rules) -> SessionStateBuilder {
    let mut config = SessionConfig::new()
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(false);
    configure(&mut config, partitions);
    if let MemoryLimit::Finite(memory_bytes) = runtime.memory_pool.memory_limit() {
        configure_memory(&mut config, memory_bytes);
    }
    SessionStateBuilder::new()
        .with_default_features()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_optimizer_rules(sql::rewrite::optimizer_rules())
        .with_physical_optimizer_rules(rules)
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
