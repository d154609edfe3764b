//! Which operator of EXPLAIN a node of a plan is: a line per kind of node.

use compute::Distribution;
use compute::plan::slice_scan::SliceScanExec;
use datafusion::catalog::memory::MemorySourceConfig;
use datafusion::common::Result;
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::window::WindowExpr;
use datafusion::physical_plan::ExecutionPlanProperties as _;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec,
};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::recursive_query::RecursiveQueryExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::union::{InterleaveExec, UnionExec};
use datafusion::physical_plan::windows::{BoundedWindowAggExec, WindowAggExec};
use datafusion::physical_plan::work_table::WorkTableExec;
use std::sync::Arc;

use super::aggregate::fitted;
use super::estimate::{ColumnEstimate, Cost, Estimate};
use super::expression::{Text, quoted, text};
use super::input::Motion;
use super::step::{Kind, Step};
use super::{Describer, Plan, scan_of};
use crate::catalog::system::table_with_columns;

/// Rows of an operator of which nothing is known.
const ROWS_UNKNOWN: f64 = 1000.0;

impl Describer {
    /// The operator that a node of a plan is.
    pub(super) fn operator(&mut self, plan: &Plan) -> Result<Step> {
        if let Some(scan) = scan_of(plan) {
            return self.scan(plan, scan);
        }
        if let Some(join) = plan.downcast_ref::<HashJoinExec>() {
            return self.hash_join(plan, join);
        }
        if let Some(join) = plan.downcast_ref::<NestedLoopJoinExec>() {
            return self.nested_loop(plan, join);
        }
        if let Some(join) = plan.downcast_ref::<CrossJoinExec>() {
            return self.cross_join(plan, join.left(), join.right());
        }
        if let Some(join) = plan.downcast_ref::<SortMergeJoinExec>() {
            return self.merge_join(plan, join);
        }
        if let Some(aggregate) = plan.downcast_ref::<AggregateExec>() {
            return self.aggregate(plan, aggregate);
        }
        if let Some(sort) = plan.downcast_ref::<SortExec>() {
            return self.sort(plan, sort);
        }
        if let Some(merge) = plan.downcast_ref::<SortPreservingMergeExec>() {
            return self.merge(plan, merge);
        }
        if let Some(limit) = plan.downcast_ref::<GlobalLimitExec>() {
            return self.global_limit(plan, limit);
        }
        if let Some(limit) = plan.downcast_ref::<LocalLimitExec>() {
            let slices = self.layout.slices() as f64;
            let input = self.step(limit.input())?;
            return Ok(self.limit(limit.fetch() as f64 * slices, input));
        }
        if let Some(window) = plan.downcast_ref::<WindowAggExec>() {
            return self.window(plan, window.input(), window.window_expr());
        }
        if let Some(window) = plan.downcast_ref::<BoundedWindowAggExec>() {
            return self.window(plan, window.input(), window.window_expr());
        }
        if plan.is::<UnionExec>() || plan.is::<InterleaveExec>() {
            return self.append(plan);
        }
        self.other(plan)
    }

    fn scan(&self, plan: &Plan, scan: &SliceScanExec) -> Result<Step> {
        let version = scan.version();
        let name = |at: usize| version.arrow_schema.field(at).name().clone();
        let table = quoted(&version.name);
        let whole = |at: usize| match self.qualifies {
            true => format!("{table}.{}", quoted(&name(at))),
            false => quoted(&name(at)),
        };
        let bare: Vec<Text> = (0..version.arrow_schema.fields().len())
            .map(|at| Text { whole: quoted(&name(at)), name: Some(name(at)) })
            .collect();
        let columns = scan.projection().iter();
        let columns = columns.map(|at| Text { whole: whole(*at), name: Some(name(*at)) }).collect();
        let copies = match version.distribution {
            Distribution::All => self.layout.nodes() as f64,
            Distribution::Even | Distribution::Key(_) => 1.0,
        };
        let read = version.row_count() as f64 * copies;
        let mut step = Step {
            name: format!("Seq Scan on {table}"),
            kind: Kind::Scan,
            details: Vec::new(),
            filters: scan.filters().iter().map(|filter| text(filter, &bare)).collect(),
            cost: Cost::scan(read, scan.filters().len()),
            estimate: scan_estimate(scan)?,
            columns,
            actual: None,
            inputs: Vec::new(),
        };
        self.set_run(&mut step, plan);
        Ok(step)
    }

    fn sort(&mut self, plan: &Plan, sort: &SortExec) -> Result<Step> {
        let input = self.step(sort.input())?;
        let (rows, cost) = (input.estimate.rows, input.cost);
        let mut step = Step::over("Sort", input);
        step.cost = cost.then_sort(rows);
        step.details.push(format!("Sort Key: {}", keys(sort.expr().iter(), &step.columns)));
        if let Some(fetch) = sort.fetch() {
            let slices = if sort.preserve_partitioning() { self.layout.slices() } else { 1 };
            step.estimate.rows = rows.min(fetch as f64 * slices as f64);
        }
        self.set_run(&mut step, plan);
        Ok(step)
    }

    /// Sorted streams come together at the leader, or in one slice.
    fn merge(&mut self, plan: &Plan, merge: &SortPreservingMergeExec) -> Result<Step> {
        let mut input = self.input(merge.input())?;
        // The limit is said once, above the merge.
        if merge.fetch().is_some() && input.step.kind == Kind::Limit {
            input.step = input.step.inputs.swap_remove(0);
        }
        let streams = merge.input().output_partitioning().partition_count();
        let is_gathered = matches!(input.motion, Some(Motion::Gather { .. }));
        if streams <= 1 && !is_gathered {
            return Ok(self.settle(input));
        }
        let below = self.network(input);
        let (rows, cost) = (below.estimate.rows, below.cost);
        let mut step = Step::over("Merge", below);
        step.cost = cost.then_merge(rows, self.layout.slices());
        step.details.push(format!("Merge Key: {}", keys(merge.expr().iter(), &step.columns)));
        self.set_run(&mut step, plan);
        Ok(step)
    }

    fn global_limit(&mut self, plan: &Plan, limit: &GlobalLimitExec) -> Result<Step> {
        let input = self.step(limit.input())?;
        let Some(fetch) = limit.fetch() else {
            let mut step = Step::over("Limit", input);
            step.estimate.rows = (step.estimate.rows - limit.skip() as f64).max(0.0);
            step.kind = Kind::Limit;
            self.set_run(&mut step, plan);
            return Ok(step);
        };
        let mut step = self.limit(fetch as f64, input);
        self.replace_run(&mut step, plan);
        Ok(step)
    }

    fn window(
        &mut self,
        plan: &Plan,
        input: &Plan,
        functions: &[Arc<dyn WindowExpr>],
    ) -> Result<Step> {
        let input = self.step(input)?;
        let (rows, cost) = (input.estimate.rows, input.cost);
        let mut step = Step::over("Window", input);
        if let Some(first) = functions.first() {
            let parts = first.partition_by().iter().map(|key| text(key, &step.columns));
            let parts: Vec<String> = parts.collect();
            if !parts.is_empty() {
                step.details.push(format!("Partition: {}", parts.join(", ")));
            }
            if !first.order_by().is_empty() {
                let order = keys(first.order_by().iter(), &step.columns);
                step.details.push(format!("Order: {order}"));
            }
        }
        for function in functions {
            let args = function.expressions();
            let args: Vec<String> = args.iter().map(|arg| text(arg, &step.columns)).collect();
            let name = function.name().split('(').next().unwrap_or_default();
            let whole = format!("{name}({}) OVER (?)", args.join(", "));
            step.columns.push(Text::computed(whole));
            step.estimate.columns.extend(
                function.field().ok().map(|field| ColumnEstimate::unknown(field.data_type())),
            );
        }
        step.columns = fitted(step.columns, plan);
        step.cost = cost.then_each(rows, functions.len());
        self.set_run(&mut step, plan);
        Ok(step)
    }

    fn append(&mut self, plan: &Plan) -> Result<Step> {
        let mut inputs = Vec::new();
        for (at, child) in plan.children().into_iter().enumerate() {
            let input = self.step(child)?;
            let actual = input.actual.as_ref().map(|actual| actual.rows_only());
            let mut scan = Step::over(&format!("Subquery Scan \"*SELECT* {}\"", at + 1), input);
            scan.actual = actual;
            inputs.push(scan);
        }
        let rows = inputs.iter().map(|input| input.estimate.rows).sum();
        let mut step = self.leaf(plan, "Append", rows);
        if let Some(first) = inputs.first() {
            step.columns = fitted(first.columns.clone(), plan);
            step.estimate.columns.clone_from(&first.estimate.columns);
        }
        step.cost = Cost::sum(inputs.iter().map(|input| input.cost));
        step.inputs = inputs;
        Ok(step)
    }

    /// What has no name in Redshift's plans, or reads no table.
    fn other(&mut self, plan: &Plan) -> Result<Step> {
        if plan.is::<PlaceholderRowExec>() {
            return Ok(self.leaf(plan, "Result", 1.0));
        }
        if plan.is::<EmptyExec>() {
            let mut step = self.leaf(plan, "Result", 0.0);
            step.details.push("One-Time Filter: false".to_owned());
            return Ok(step);
        }
        if let Some(rows) = memory_of(plan) {
            return Ok(self.rows_in_memory(plan, rows));
        }
        if let Some(table) = plan.downcast_ref::<WorkTableExec>() {
            let name = format!("WorkTable Scan on {}", quoted(table.name()));
            return Ok(self.leaf(plan, &name, ROWS_UNKNOWN));
        }
        let children = plan.children().into_iter();
        let inputs = children.map(|child| self.step(child)).collect::<Result<Vec<_>>>()?;
        let name = if plan.is::<RecursiveQueryExec>() {
            "Recursive Union"
        } else {
            plan.name().trim_end_matches("Exec")
        };
        let rows = inputs.iter().map(|input| input.estimate.rows).sum();
        let mut step = self.leaf(plan, name, rows);
        if let Some(first) = inputs.first() {
            step.columns = fitted(first.columns.clone(), plan);
        }
        step.cost = Cost::sum(inputs.iter().map(|input| input.cost));
        step.inputs = inputs;
        Ok(step)
    }

    fn rows_in_memory(&self, plan: &Plan, source: &MemorySourceConfig) -> Step {
        let rows =
            source.partitions().iter().flatten().map(|batch| batch.num_rows()).sum::<usize>();
        let name = match table_with_columns(&source.original_schema()) {
            Some(table) => format!("Seq Scan on {table}"),
            None => "Values Scan on \"*VALUES*\"".to_owned(),
        };
        let mut step = self.leaf(plan, &name, rows as f64);
        step.kind = Kind::Scan;
        step.cost = Cost::scan(rows as f64, 0);
        let fields = plan.schema();
        let bare = fields
            .fields()
            .iter()
            .map(|field| Text { whole: quoted(field.name()), name: Some(field.name().clone()) });
        step.columns = bare.collect();
        step
    }

    fn leaf(&self, plan: &Plan, name: &str, rows: f64) -> Step {
        let mut step = Step {
            name: name.to_owned(),
            kind: Kind::Other,
            details: Vec::new(),
            filters: Vec::new(),
            cost: Cost::scan(rows, 0),
            estimate: Estimate::unknown(rows, &plan.schema()),
            columns: fitted(Vec::new(), plan),
            actual: None,
            inputs: Vec::new(),
        };
        self.set_run(&mut step, plan);
        step
    }
}

fn memory_of(plan: &Plan) -> Option<&MemorySourceConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref()
}

/// The keys of an order, as Redshift shows them: without their direction.
fn keys<'k>(keys: impl Iterator<Item = &'k PhysicalSortExpr>, columns: &[Text]) -> String {
    keys.map(|key| text(&key.expr, columns)).collect::<Vec<_>>().join(", ")
}

fn scan_estimate(scan: &SliceScanExec) -> Result<Estimate> {
    let known = StatisticsContext::new().compute(scan, &StatisticsArgs::new())?;
    let rows = known.num_rows.get_value().copied().unwrap_or_default() as f64;
    let schema = datafusion::physical_plan::ExecutionPlan::schema(scan);
    let mut estimate = Estimate::unknown(rows, &schema);
    for (column, known) in estimate.columns.iter_mut().zip(&known.column_statistics) {
        if let Some(distinct) = known.distinct_count.get_value() {
            column.distinct = *distinct as f64;
        }
        if let Some(bytes) = known.byte_size.get_value()
            && rows > 0.0
        {
            column.width = *bytes as f64 / rows;
        }
    }
    Ok(estimate)
}
