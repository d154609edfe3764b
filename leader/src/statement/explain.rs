//! EXPLAIN and EXPLAIN ANALYZE.

use std::sync::Arc;
use std::time::{Duration, Instant};

use compute::PeakMemory;
use compute::exchange::QUERY_MEMORY_PEAK;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use sql::MergeStep;
use sql::statement::{Explain, Statement};
use wlm::QueryKind;

use super::change_rows;
use super::rows::{text_rows, text_schema};
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::execution::{Planned, Work, run_plan};
use crate::pgwire::backend::Execution;
use crate::planner::explain::{describe, describe_run, memory_by_node, with_metrics};
use crate::planner::on_large_stack;
use crate::session::binding::{Binding, target_table};
use crate::session::{Session, SessionStatement, undefined_table};
use crate::workload::{features, is_managed};

type Plan = Arc<dyn ExecutionPlan>;

/// The one column of the answer.
pub(super) fn schema() -> SchemaRef {
    text_schema(&["QUERY PLAN"])
}

/// Shows the plan in Redshift's words, after the physical one if it is to be verbose; with ANALYZE
/// runs the query first and shows what happened.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    statement: &Explain,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let is_query = matches!(statement.statement.as_ref(), Statement::Query(_));
    if statement.analyze && !is_query {
        let message = "EXPLAIN ANALYZE runs queries only";
        let error = Error::statement(code::FEATURE_NOT_SUPPORTED, message);
        return Err(error.with_hint("EXPLAIN without ANALYZE shows the plan and runs nothing."));
    }
    let target = match statement.statement.as_ref() {
        Statement::Insert(insert) => Some(&insert.table),
        Statement::Update(update) => Some(&update.table),
        Statement::Delete(delete) => Some(&delete.table),
        Statement::Merge(merge) => Some(&merge.table),
        _ => None,
    };
    let target = match target {
        Some(name) => {
            let view = session.transaction()?.view();
            let entry = session.find_table(&view, name)?.ok_or_else(|| undefined_table(name))?;
            session.check_owner(&entry.owner, "relation", &entry.name)?;
            Some(target_table(&entry))
        }
        None => None,
    };
    let layout = session.engine().cluster.layout();
    let (verbose, analyze) = (statement.verbose, statement.analyze);
    let binding = session.binding()?;
    let (inner, types) = (statement.statement.clone(), whole.parameter_types.clone());
    if analyze {
        let plan = on_large_stack(move || {
            let bound = bind(&binding, &inner, target.as_ref(), &types)?;
            binding.physical(bound, parameters)
        });
        let (lines, physical) = run_and_describe(session, plan.await?).await?;
        return text_rows(schema(), vec![shown(lines, &physical, verbose)], "EXPLAIN");
    }
    let lines = on_large_stack(move || {
        let mut all = Vec::new();
        for bound in bind_all(&binding, &inner, target.as_ref(), &types)? {
            let plan = binding.physical(bound, parameters.clone())?;
            if !all.is_empty() {
                all.push(String::new());
            }
            let physical = displayable(plan.as_ref()).indent(true).to_string();
            all.append(&mut shown(describe(&plan, layout)?, &physical, verbose));
        }
        Ok(all)
    })
    .await?;
    text_rows(schema(), vec![lines], "EXPLAIN")
}

/// The lines, after the physical plan if the answer is to be verbose.
fn shown(mut lines: Vec<String>, physical: &str, verbose: bool) -> Vec<String> {
    if !verbose {
        return lines;
    }
    let mut all: Vec<String> = physical.lines().map(str::to_owned).collect();
    all.push(String::new());
    all.append(&mut lines);
    all
}

/// The plans of a statement: MERGE has two, of what becomes of rows that match and of those that
/// do not.
fn bind_all(
    binding: &Binding,
    statement: &Statement,
    target: Option<&sql::TargetTable>,
    types: &[Option<DataType>],
) -> Result<Vec<LogicalPlan>> {
    let (Statement::Merge(merge), Some(target)) = (statement, target) else {
        return Ok(vec![bind(binding, statement, target, types)?]);
    };
    change_rows::refuse_self_merge(binding, merge, target)?;
    let binder = binding.binder();
    let steps = binder.merge_steps(merge, target)?;
    let matched = match &steps.matched {
        MergeStep::Update(update) => binder.bind_update(update, target, &[])?,
        MergeStep::Delete(delete) => binder.bind_delete(delete, target, &[])?,
    };
    Ok(vec![matched, binder.bind_insert(&steps.insert, target, &[])?])
}

fn bind(
    binding: &Binding,
    statement: &Statement,
    target: Option<&sql::TargetTable>,
    types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let binder = binding.binder();
    match (statement, target) {
        (Statement::Query(query), _) => Ok(binder.bind_query(query, types)?),
        (Statement::CreateTableAs(statement), _) => Ok(binder.bind_ctas(statement)?),
        (Statement::Insert(insert), Some(target)) => Ok(binder.bind_insert(insert, target, &[])?),
        // The query that finds the rows, and makes the new ones.
        (Statement::Update(update), Some(target)) => Ok(binder.bind_update(update, target, &[])?),
        (Statement::Delete(delete), Some(target)) => Ok(binder.bind_delete(delete, target, &[])?),
        _ => Err(Error::statement(
            code::FEATURE_NOT_SUPPORTED,
            "EXPLAIN is supported for SELECT, INSERT, UPDATE, DELETE, MERGE and CREATE TABLE AS",
        )),
    }
}

/// Waits for its turn and runs the plan to its end; the tree with what happened, and the physical plan
/// with its metrics.
async fn run_and_describe(session: &mut Session, plan: Plan) -> Result<(Vec<String>, String)> {
    let engine = Arc::clone(session.engine());
    let layout = engine.cluster.layout();
    let shown = Arc::clone(&plan);
    let (kind, features) = on_large_stack(move || {
        let is_managed = is_managed(&shown);
        // It is not made again: whatever workload management does, it is not restarted.
        let kind = if is_managed { QueryKind::SelectWithUdf } else { QueryKind::LeaderOnly };
        Ok((kind, features(&shown, layout.nodes())))
    })
    .await?;
    let (seat, _claim) = session.seat(kind, features).await?;
    let planned = Planned { plan, again: None, is_source: false };
    let measuring = Arc::clone(&engine);
    let Ran { plan, memory, rows, time } =
        run_plan(&engine, seat, planned, move |work| measure(Arc::clone(&measuring), work)).await?;
    let plan = with_metrics(&plan).await?;
    on_large_stack(move || {
        let mut lines = describe_run(&plan, layout)?;
        let time_ms = time.as_secs_f64() * 1000.0;
        lines.push(format!("Total: rows={rows} time={time_ms:.3} ms"));
        let mut peaks = vec![format!("leader={} kB", memory.peak_bytes().div_ceil(1024))];
        for (node, bytes) in memory_by_node(&plan, QUERY_MEMORY_PEAK)? {
            peaks.push(format!("node {node}={} kB", bytes.div_ceil(1024)));
        }
        lines.push(format!("Peak memory: {}", peaks.join(", ")));
        let physical = DisplayableExecutionPlan::with_metrics(plan.as_ref());
        Ok((lines, physical.indent(true).to_string()))
    })
    .await
}

/// A plan that was measured to its end.
struct Ran {
    plan: Plan,
    /// What it took of this process.
    memory: Arc<PeakMemory>,
    rows: usize,
    time: Duration,
}

async fn measure(engine: Arc<Engine>, work: Work) -> Result<Ran> {
    let (context, memory) = engine.planner.measuring_context(&work.context)?;
    let started = Instant::now();
    let mut batches = execute_stream(Arc::clone(&work.plan), context)?;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        rows += batch?.num_rows();
    }
    Ok(Ran { plan: work.plan, memory, rows, time: started.elapsed() })
}
