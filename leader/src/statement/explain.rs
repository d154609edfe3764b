//! EXPLAIN and EXPLAIN ANALYZE.

use std::sync::Arc;
use std::time::Instant;

use compute::plan::stop::stoppable;
use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use sql::statement::{Explain, Statement};

use super::rows::{text_rows, text_schema};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::planner::explain::{describe, describe_run, peak_by_node, with_metrics};
use crate::planner::on_large_stack;
use crate::session::binding::{Binding, target_table};
use crate::session::{Session, SessionStatement, undefined_table};

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
        Statement::Insert(insert) => {
            let view = session.transaction()?.view();
            let entry = session.find_table(&view, &insert.table)?;
            Some(target_table(&*entry.ok_or_else(|| undefined_table(&insert.table))?))
        }
        _ => None,
    };
    let layout = session.engine().cluster.layout();
    let (verbose, analyze) = (statement.verbose, statement.analyze);
    let binding = session.binding()?;
    let (inner, types) = (statement.statement.clone(), whole.parameter_types.clone());
    let (plan, mut lines) = on_large_stack(move || {
        let bound = bind(&binding, &inner, target.as_ref(), &types)?;
        if analyze {
            return Ok((binding.measured(bound, parameters)?, Vec::new()));
        }
        let plan = binding.physical(bound, parameters)?;
        let lines = describe(&plan, layout)?;
        Ok((plan, lines))
    })
    .await?;
    let mut physical = displayable(plan.as_ref()).indent(true).to_string();
    if analyze {
        (lines, physical) = run_and_describe(session, plan).await?;
    }
    if verbose {
        let mut all: Vec<String> = physical.lines().map(str::to_owned).collect();
        all.push(String::new());
        all.append(&mut lines);
        lines = all;
    }
    text_rows(schema(), vec![lines], "EXPLAIN")
}

fn bind(
    binding: &Binding,
    statement: &Statement,
    target: Option<&sql::TargetTable>,
    types: &[Option<DataType>],
) -> Result<datafusion::logical_expr::LogicalPlan> {
    let binder = binding.binder();
    match (statement, target) {
        (Statement::Query(query), _) => Ok(binder.bind_query(query, types)?),
        (Statement::CreateTableAs(statement), _) => Ok(binder.bind_ctas(statement)?),
        (Statement::Insert(insert), Some(target)) => Ok(binder.bind_insert(insert, target, &[])?),
        _ => Err(Error::statement(
            code::FEATURE_NOT_SUPPORTED,
            "EXPLAIN is supported for SELECT, INSERT and CREATE TABLE AS",
        )),
    }
}

/// Runs the plan to its end, on the query threads; the tree with what happened, and the physical plan
/// with its metrics.
async fn run_and_describe(session: &Session, plan: Plan) -> Result<(Vec<String>, String)> {
    let engine = session.engine();
    let (context, memory) = engine.planner.measuring_context()?;
    let (plan, stop) = stoppable(plan)?;
    let running = Arc::clone(&plan);
    let started = Instant::now();
    let rows = engine
        .run(async move {
            let mut rows = execute_stream(running, context)?;
            let mut count = 0;
            while let Some(batch) = rows.next().await {
                count += batch?.num_rows();
            }
            Ok(count)
        })
        .await?;
    let time = started.elapsed();
    drop(stop);
    let plan = with_metrics(&plan).await?;
    let layout = engine.cluster.layout();
    on_large_stack(move || {
        let mut lines = describe_run(&plan, layout)?;
        let time_ms = time.as_secs_f64() * 1000.0;
        lines.push(format!("Total: rows={rows} time={time_ms:.3} ms"));
        let mut peaks = vec![format!("leader={} kB", memory.peak_bytes().div_ceil(1024))];
        for (node, bytes) in peak_by_node(&plan)? {
            peaks.push(format!("node {node}={} kB", bytes.div_ceil(1024)));
        }
        lines.push(format!("Peak memory: {}", peaks.join(", ")));
        let physical = DisplayableExecutionPlan::with_metrics(plan.as_ref());
        Ok((lines, physical.indent(true).to_string()))
    })
    .await
}
