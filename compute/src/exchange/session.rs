//! The session in which a node executes a task.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::ScalarUDF;
use datafusion_distributed::{
    ChannelResolver, DistributedExt, WorkerPlanRewriteEvent, WorkerPlanRewriteEventResponse,
    WorkerQueryContext,
};

use super::channel::NodeChannels;
use super::tasks::Tasks;
use crate::codec::{NodeCodec, Site, check};
use crate::memory::configure_memory;
use crate::plan::bounded::bounded;
use crate::plan::stop::stoppable_task;

/// The rows of a batch: the window of a scan.
const BATCH_ROWS: usize = storage::WINDOW_ROWS;

/// Sets what leader and nodes must agree on: the same plan is made by one and executed by the
/// others. `partitions` are those of a task.
pub fn configure(config: &mut SessionConfig, partitions: usize) {
    *config = std::mem::take(config).with_target_partitions(partitions).with_batch_size(BATCH_ROWS);
    let options = config.options_mut();
    options.execution.time_zone = Some("UTC".to_owned());
    options.optimizer.filter_null_join_keys = true;
}

/// Makes the sessions of tasks, all alike but for the task.
pub(super) struct Sessions {
    template: SessionState,
    site: Site,
    channels: Arc<NodeChannels>,
    tasks: Arc<Tasks>,
}

impl Sessions {
    pub(super) fn new(
        site: Site,
        channels: Arc<NodeChannels>,
        tasks: Arc<Tasks>,
        more_functions: Vec<Arc<ScalarUDF>>,
    ) -> Self {
        let mut functions = sql::functions();
        functions.scalar.extend(more_functions);
        let template = SessionStateBuilder::new()
            .with_default_features()
            .with_runtime_env(site.node.runtime_env())
            .with_scalar_functions(functions.scalar)
            .with_aggregate_functions(functions.aggregate)
            .with_window_functions(functions.window)
            .build();
        Self { template, site, channels, tasks }
    }

    /// The session of the task that the headers name.
    pub(super) fn open(&self, context: WorkerQueryContext) -> Result<SessionState> {
        let mut builder = context.builder;
        let mut config = builder.config().take().unwrap_or_default();
        configure(&mut config, self.site.node.slices());
        let task = self.tasks.find(&context.headers)?;
        let end = Arc::clone(&task.end);
        let runtime = match &task.place.memory {
            Some(memory) => memory.runtime_env(),
            None => self.site.node.runtime_env(),
        };
        if let MemoryLimit::Finite(bytes) = runtime.memory_pool.memory_limit() {
            configure_memory(&mut config, bytes);
        }
        config.set_extension(Arc::clone(&end));
        config.set_distributed_user_codec(NodeCodec::for_node(self.site.clone()));
        let channels: Arc<dyn ChannelResolver + Send + Sync> = Arc::clone(&self.channels) as _;
        config.set_distributed_channel_resolver(channels);
        config.set_distributed_worker_plan_rewrite_handler(
            move |event: WorkerPlanRewriteEvent<'_>| -> Result<WorkerPlanRewriteEventResponse> {
                check(&event.plan)?;
                let plan = stoppable_task(bounded(event.plan)?, &end)?;
                task.set_plan(Arc::clone(&plan));
                Ok(WorkerPlanRewriteEventResponse::new(plan))
            },
        );
        let state = SessionStateBuilder::new_from_existing(self.template.clone());
        Ok(state.with_config(config).with_runtime_env(runtime).build())
    }
}
