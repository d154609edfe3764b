//! The leaf of a plan that reads a table version from the slices of a node.
//!
//! It has two forms. The leader plans with the slices of all nodes: partition `p` stands for the
//! slices with that index on every node. A node executes the form that lists the slices of one task
//! only ([`SliceScanExec::for_node`]); where the leader is the only node, the two are one.
//!
//! It reads only the columns that the plan needs, evaluates all filters that were pushed to it, and
//! promises the hash partitioning of a KEY table, so that joins and groups on the distribution key
//! need no repartitioning: partition `p` is then exactly the slices listed for it. Without that
//! promise its partitions share all row groups.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr, split_conjunction};
use datafusion::physical_expr_common::physical_expr::is_volatile;
use datafusion::physical_plan::coop::cooperative;
use datafusion::physical_plan::execution_plan::{
    Boundedness, EmissionType, ReplaceChildrenOptions, SchedulingType,
};
use datafusion::physical_plan::filter_pushdown::{
    ChildPushdownResult, FilterPushdownPhase, FilterPushdownPropagation, PushedDown,
};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use parking_lot::Mutex;

use super::guard::guard;
use super::morsels::{Execution, MorselQueue};
use super::residual::move_columns;
use super::runtime_filter::SliceOfKey;
use super::runtime_filter::is_runtime_filter;
use super::scan_stream::{ScanMetrics, ScanStream, ScanWork};
use super::selectivity::scan_statistics;
use crate::layout::Layout;
use crate::plan::cancel::cancellable;
use crate::table::{Distribution, Home, TableVersion};

mod proto;

pub(crate) use proto::SliceScanProto;

/// Reads the slices of a table.
#[derive(Debug)]
pub struct SliceScanExec {
    version: Arc<TableVersion>,
    home: Home,
    table_statistics: Arc<Statistics>,
    /// Positions in the table of the output columns.
    projection: Vec<usize>,
    /// Over the table's columns; all must be true for a row to be returned.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Over the table's columns; refined by other operators while the scan runs.
    runtime_filters: Vec<Arc<dyn PhysicalExpr>>,
    /// Rows that each partition returns at most.
    limit: Option<usize>,
    /// The slices of each partition.
    partitions: Vec<Vec<usize>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    execution: Mutex<Option<Execution>>,
}

impl SliceScanExec {
    /// A scan of all slices: a partition for each slice of a node. `projection` lists positions in
    /// the table's columns.
    pub fn try_new(
        version: Arc<TableVersion>,
        home: Home,
        table_statistics: Arc<Statistics>,
        projection: Vec<usize>,
    ) -> Result<Self> {
        let layout = home.layout();
        // An ALL table is read from one copy, whichever.
        let nodes = match version.distribution {
            Distribution::All => 1,
            Distribution::Even | Distribution::Key(_) => layout.nodes(),
        };
        let partitions = merged_partitions(&version, layout, 0..nodes);
        if version.slices.len() > layout.slices() {
            return internal_err!(
                "table {} has {} slices, the cluster {}",
                version.name,
                version.slices.len(),
                layout.slices()
            );
        }
        Self::with_partitions(version, home, table_statistics, projection, partitions)
    }

    /// The scan of one node's slices: by itself, or by a node that stands in for it.
    pub fn for_node(&self, node: usize) -> Self {
        let partitions = merged_partitions(&self.version, self.home.layout(), node..node + 1);
        Self { partitions, ..self.renew() }
    }

    fn with_partitions(
        version: Arc<TableVersion>,
        home: Home,
        table_statistics: Arc<Statistics>,
        projection: Vec<usize>,
        partitions: Vec<Vec<usize>>,
    ) -> Result<Self> {
        let schema = Arc::new(version.arrow_schema.project(&projection)?);
        let properties = properties(&version, &projection, schema, &partitions);
        Ok(Self {
            version,
            home,
            table_statistics,
            projection,
            filters: vec![],
            runtime_filters: vec![],
            limit: None,
            partitions,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
            execution: Mutex::default(),
        })
    }

    /// The scan with these filters, over the table's columns, in addition to those it has.
    #[must_use]
    pub fn with_filters(mut self, filters: Vec<Arc<dyn PhysicalExpr>>) -> Self {
        for filter in filters {
            for conjunct in split_conjunction(&filter) {
                let known = if is_runtime_filter(conjunct) {
                    &mut self.runtime_filters
                } else {
                    &mut self.filters
                };
                if !known.contains(conjunct) {
                    known.push(Arc::clone(conjunct));
                }
            }
        }
        self
    }

    /// The scan with at most `limit` rows per partition.
    #[must_use]
    pub fn with_limit(mut self, limit: Option<usize>) -> Self {
        self.limit = limit;
        self
    }

    /// The table version that is read.
    pub fn version(&self) -> &Arc<TableVersion> {
        &self.version
    }

    /// Positions in the table of the output columns.
    pub fn projection(&self) -> &[usize] {
        &self.projection
    }

    /// Conditions over the table's columns, all of which a row fulfils that is returned; without
    /// those that other operators refine while the scan runs.
    pub fn filters(&self) -> &[Arc<dyn PhysicalExpr>] {
        &self.filters
    }

    /// Another scan of the same table that has not run.
    fn renew(&self) -> Self {
        Self {
            version: Arc::clone(&self.version),
            home: self.home.clone(),
            table_statistics: Arc::clone(&self.table_statistics),
            projection: self.projection.clone(),
            filters: self.filters.clone(),
            runtime_filters: self.runtime_filters.clone(),
            limit: self.limit,
            partitions: self.partitions.clone(),
            properties: Arc::clone(&self.properties),
            metrics: ExecutionPlanMetricsSet::new(),
            execution: Mutex::default(),
        }
    }

    /// The column whose hash the output partitioning promises.
    fn promised_key(&self) -> Option<usize> {
        promised_key(&self.version, &self.projection)
    }

    fn open_queue(&self, partition: usize) -> Result<Arc<MorselQueue>> {
        let start = || match self.promised_key() {
            Some(_) => Execution::pinned(&self.version, &self.partitions),
            None => Execution::shared(&self.version, &self.partitions),
        };
        let mut execution = self.execution.lock();
        if let Some(queue) = execution.get_or_insert_with(start).open(partition) {
            return Ok(queue);
        }
        match execution.insert(start()).open(partition) {
            Some(queue) => Ok(queue),
            None => internal_err!("scan of {} has no partition {partition}", self.version.name),
        }
    }

    /// The projected columns, if the projection does nothing but leave columns out or move them.
    fn projected(&self, projection: &[ProjectionExpr]) -> Option<Vec<usize>> {
        let schema = self.schema();
        let mut columns = Vec::with_capacity(projection.len());
        for output in projection {
            let column = output.expr.downcast_ref::<Column>()?;
            if schema.field(column.index()).name() != &output.alias {
                return None;
            }
            columns.push(self.projection[column.index()]);
        }
        Some(columns)
    }
}

/// The slices that each partition reads, over some of the nodes.
fn merged_partitions(
    version: &TableVersion,
    layout: Layout,
    nodes: Range<usize>,
) -> Vec<Vec<usize>> {
    let of_node = |partition: usize, node: usize| match version.distribution {
        // Every node has a copy of the first slice of such a table.
        Distribution::All => (partition == 0).then_some(0),
        Distribution::Even | Distribution::Key(_) => Some(layout.slices_of(node).start + partition),
    };
    (0..layout.slices_per_node())
        .map(|partition| nodes.clone().filter_map(|node| of_node(partition, node)).collect())
        .collect()
}

/// KEY tables promise the hash of their key if it is among the output columns.
fn promised_key(version: &TableVersion, projection: &[usize]) -> Option<usize> {
    match version.planned_distribution() {
        Distribution::Key(key) => projection.iter().position(|column| *column == key),
        Distribution::Even | Distribution::All => None,
    }
}

fn properties(
    version: &TableVersion,
    projection: &[usize],
    schema: SchemaRef,
    partitions: &[Vec<usize>],
) -> PlanProperties {
    let partitioning = match promised_key(version, projection) {
        Some(key) => {
            let name = schema.field(key).name();
            Partitioning::Hash(vec![Arc::new(Column::new(name, key))], partitions.len())
        }
        None => Partitioning::UnknownPartitioning(partitions.len()),
    };
    PlanProperties::new(
        EquivalenceProperties::new(schema),
        partitioning,
        EmissionType::Incremental,
        Boundedness::Bounded,
    )
    .with_scheduling_type(SchedulingType::Cooperative)
}

impl DisplayAs for SliceScanExec {
    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let columns: Vec<&str> =
            schema.fields().iter().map(|field| field.name().as_str()).collect();
        let filters: Vec<String> =
            self.filters.iter().chain(&self.runtime_filters).map(ToString::to_string).collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "SliceScanExec: table={}", self.version.name)?;
                write!(f, ", distribution={}", DistributionName(&self.version))?;
                write!(f, ", slices={}", self.partitions.len())?;
                write!(f, ", columns=[{}]", columns.join(", "))?;
                if !filters.is_empty() {
                    write!(f, ", filters=[{}]", filters.join(", "))?;
                }
                self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "table={}", self.version.name)?;
                filters.iter().try_for_each(|filter| writeln!(f, "filter={filter}"))
            }
        }
    }
}

/// DISTSTYLE as Redshift shows it.
struct DistributionName<'v>(&'v TableVersion);

impl fmt::Display for DistributionName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.distribution {
            Distribution::Even => write!(f, "EVEN"),
            Distribution::All => write!(f, "ALL"),
            Distribution::Key(key) => write!(f, "KEY({})", self.0.arrow_schema.field(key).name()),
        }
    }
}

impl ExecutionPlan for SliceScanExec {
    fn name(&self) -> &'static str {
        "SliceScanExec"
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
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for expr in self.filters.iter().chain(&self.runtime_filters) {
            if f(expr)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }

    /// Forgets what an earlier execution has read, and filters that its operators have refined:
    /// a join that runs again makes new ones.
    fn reset_state(self: Arc<Self>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { runtime_filters: vec![], ..self.renew() }))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let slice = self.promised_key().map(|key| SliceOfKey {
            column: self.projection[key],
            slices: self.partitions.len(),
            slice: partition,
        });
        let work = ScanWork {
            version: Arc::clone(&self.version),
            node: Arc::clone(self.home.node()?),
            projection: self.projection.clone(),
            output_schema: self.schema(),
            filters: self.filters.clone(),
            runtime_filters: self.runtime_filters.clone(),
            limit: self.limit,
            batch_rows: context.session_config().batch_size(),
            slice,
        };
        let metrics = ScanMetrics::new(&self.metrics, partition);
        let stream = ScanStream::new(work, self.open_queue(partition)?, metrics);
        let stream = cancellable(Box::pin(cooperative(stream)), context.session_config());
        Ok(guard(stream))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let parts = if args.partition().is_some() { self.partitions.len() } else { 1 };
        Ok(Arc::new(scan_statistics(
            &self.version.schema,
            &self.table_statistics,
            &self.filters,
            &self.projection,
            self.limit,
            parts,
        )))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(self.renew().with_limit(limit)))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn try_swapping_with_projection(
        &self,
        projection: &ProjectionExec,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(columns) = self.projected(projection.expr()) else { return Ok(None) };
        let schema = Arc::new(self.version.arrow_schema.project(&columns)?);
        let properties = properties(&self.version, &columns, schema, &self.partitions);
        let properties = Arc::new(properties);
        Ok(Some(Arc::new(Self { projection: columns, properties, ..self.renew() })))
    }

    fn handle_child_pushdown_result(
        &self,
        _: FilterPushdownPhase,
        pushed: ChildPushdownResult,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn ExecutionPlan>>> {
        let mut accepted = Vec::new();
        let mut answers = Vec::new();
        for filter in pushed.parent_filters {
            // A limit counts rows that have passed the filters it was given with.
            if is_volatile(&filter.filter) || self.limit.is_some() {
                answers.push(PushedDown::No);
                continue;
            }
            // Run-time filters are applied as far as they help, which is no promise.
            let dynamic = is_runtime_filter(&filter.filter);
            answers.push(if dynamic { PushedDown::No } else { PushedDown::Yes });
            let to_table = |index: usize| self.projection.get(index).copied();
            accepted.push(move_columns(filter.filter, to_table)?);
        }
        let propagation = FilterPushdownPropagation::with_parent_pushdown_result(answers);
        if accepted.is_empty() {
            return Ok(propagation);
        }
        let scan: Arc<dyn ExecutionPlan> = Arc::new(self.renew().with_filters(accepted));
        Ok(propagation.with_updated_node(scan))
    }
}
