//! Groups: one operator of EXPLAIN for the two halves of an aggregation, unless groups cross the
//! network between them.

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_plan::InputOrderMode;
use datafusion::physical_plan::aggregates::{
    AggregateExec, AggregateInputMode, AggregateOutputMode,
};

use super::actual::Actual;
use super::estimate::{ColumnEstimate, Estimate};
use super::expression::{Text, output, text};
use super::input::{Input, Motion};
use super::step::{Kind, Step};
use super::{Describer, Plan};

impl Describer {
    pub(super) fn aggregate(&mut self, plan: &Plan, aggregate: &AggregateExec) -> Result<Step> {
        let input = self.input(aggregate.input())?;
        let is_raw = aggregate.mode().input_mode() == AggregateInputMode::Raw;
        let crosses = input.motion == Some(Motion::Distribute) && !self.is_one_node();
        let is_half = input.step.kind == Kind::Aggregate { is_partial: true };
        if is_raw || crosses || !is_half {
            let below = self.settle(input);
            return self.grouped(plan, aggregate, below);
        }
        self.second_half(plan, aggregate, input)
    }

    fn grouped(&mut self, plan: &Plan, aggregate: &AggregateExec, below: Step) -> Result<Step> {
        let is_partial = aggregate.mode().output_mode() == AggregateOutputMode::Partial;
        let rows_in = below.estimate.rows;
        let columns = self.output_of_aggregate(plan, aggregate, &below)?;
        let mut estimate = estimate(aggregate, plan, &below.estimate);
        let slices = self.layout.slices() as f64;
        if is_partial {
            estimate.rows = (estimate.rows * slices).min(rows_in.max(1.0));
        }
        let cost = below.cost;
        let expressions = aggregate.aggr_expr().len() + aggregate.group_expr().expr().len();
        let mut step = Step::over(name(aggregate), below);
        step.kind = Kind::Aggregate { is_partial };
        step.cost = cost.then_all(rows_in, expressions, estimate.rows);
        step.columns = columns;
        step.estimate = estimate;
        self.set_run(&mut step, plan);
        Ok(step)
    }

    /// The partial aggregate below becomes the whole.
    fn second_half(&self, plan: &Plan, aggregate: &AggregateExec, input: Input) -> Result<Step> {
        let mut step = input.step;
        step.columns = self.output_of_aggregate(plan, aggregate, &step)?;
        step.estimate = estimate(aggregate, plan, &step.estimate);
        step.cost = step.cost.with_rows_out(step.estimate.rows);
        step.kind = Kind::Aggregate {
            is_partial: aggregate.mode().output_mode() == AggregateOutputMode::Partial,
        };
        self.replace_run(&mut step, plan);
        step.note_moved(input.moved);
        Ok(step)
    }

    /// The texts of the output: keys, then functions, or what partial ones hand on.
    fn output_of_aggregate(
        &self,
        plan: &Plan,
        aggregate: &AggregateExec,
        input: &Step,
    ) -> Result<Vec<Text>> {
        let keys = aggregate.group_expr().expr();
        let mut columns: Vec<Text> =
            keys.iter().map(|(key, _)| output(key, &input.columns)).collect();
        let grouping = aggregate.group_expr().has_grouping_set();
        if grouping && aggregate.mode().output_mode() == AggregateOutputMode::Partial {
            columns.push(Text::computed("grouping".to_owned()));
        }
        let is_raw = aggregate.mode().input_mode() == AggregateInputMode::Raw;
        let mut state = keys.len();
        for function in aggregate.aggr_expr() {
            let states = function.state_fields()?.len();
            let whole = if is_raw {
                call(function, &input.columns)
            } else {
                input.columns.get(state).map(|t| t.whole.clone()).unwrap_or_default()
            };
            state += states;
            let outputs = match aggregate.mode().output_mode() {
                AggregateOutputMode::Partial => states,
                AggregateOutputMode::Final => 1,
            };
            columns.extend((0..outputs).map(|_| Text::computed(whole.clone())));
        }
        Ok(fitted(columns, plan))
    }
}

/// One text per column, whatever the operator adds by itself.
pub(super) fn fitted(mut columns: Vec<Text>, plan: &Plan) -> Vec<Text> {
    let schema = plan.schema();
    columns.truncate(schema.fields().len());
    let missing = schema.fields().iter().skip(columns.len());
    let missing: Vec<Text> = missing.map(|f| Text::computed(f.name().clone())).collect();
    columns.extend(missing);
    columns
}

fn name(aggregate: &AggregateExec) -> &'static str {
    let has_keys = !aggregate.group_expr().expr().is_empty();
    match aggregate.input_order_mode() {
        _ if !has_keys => "Aggregate",
        _ if aggregate.aggr_expr().is_empty() => "Unique",
        InputOrderMode::Sorted => "GroupAggregate",
        InputOrderMode::Linear | InputOrderMode::PartiallySorted(_) => "HashAggregate",
    }
}

/// `sum(DISTINCT a)`; a constant that only stands for a row is a star.
fn call(function: &AggregateFunctionExpr, columns: &[Text]) -> String {
    let args = function.expressions();
    let name = function.fun().name();
    if name == "count" && args.iter().all(|arg| arg.is::<Literal>()) {
        return "count(*)".to_owned();
    }
    let args: Vec<String> = args.iter().map(|arg| text(arg, columns)).collect();
    let distinct = if function.is_distinct() { "DISTINCT " } else { "" };
    format!("{name}({distinct}{})", args.join(", "))
}

/// As many groups as the keys have distinct values, never more than rows.
fn estimate(aggregate: &AggregateExec, plan: &Plan, input: &Estimate) -> Estimate {
    let keys = aggregate.group_expr().expr();
    let column = |key: &Arc<dyn PhysicalExpr>| key.downcast_ref::<Column>().map(Column::index);
    let distinct = |key: &Arc<dyn PhysicalExpr>| match column(key) {
        Some(at) => input.distinct(at),
        None => input.rows.max(1.0).sqrt(),
    };
    let sets = aggregate.group_expr().groups().len().max(1) as f64;
    let groups: f64 = keys.iter().map(|(key, _)| distinct(key)).product();
    let rows = if keys.is_empty() { 1.0 } else { (groups * sets).min(input.rows.max(1.0)) };
    let mut estimate = Estimate::unknown(rows, &plan.schema());
    for (at, (key, _)) in keys.iter().enumerate() {
        let known = column(key).and_then(|column| input.columns.get(column).copied());
        if let (Some(known), Some(own)) = (known, estimate.columns.get_mut(at)) {
            *own = ColumnEstimate { distinct: known.distinct.min(rows), ..known };
        }
    }
    estimate
}

/// The figures of a run, where there was one.
impl Describer {
    /// Those of the node of the plan that the operator stands for.
    pub(super) fn set_run(&self, step: &mut Step, plan: &Plan) {
        step.actual = self.has_run.then(|| Actual::of(plan));
    }

    /// With what a node used that has no line of its own.
    pub(super) fn add_run(&self, step: &mut Step, plan: &Plan) {
        if self.has_run {
            step.actual.get_or_insert_default().use_more(&Actual::of(plan));
        }
    }

    /// With what a node on top used, and the rows that came out of it.
    pub(super) fn replace_run(&self, step: &mut Step, plan: &Plan) {
        if self.has_run {
            let top = Actual::of(plan);
            let actual = step.actual.get_or_insert_default();
            actual.use_more(&top);
            actual.give(&top);
        }
    }
}
