//! EXPLAIN and EXPLAIN ANALYZE.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::{ExecutionPlan, displayable, execute_stream};
use datafusion::scalar::ScalarValue;
use futures::StreamExt as _;
use sql::statement::{Explain, Statement};
use wlm::QueryKind;

use super::rows::{text_rows, text_schema};
use crate::error::{Error, Result, code};
use crate::execution::{Planned, Work, run_plan};
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::binding::{Binding, target_table};
use crate::session::{Session, SessionStatement, undefined_table};
use crate::workload::{features, is_managed};

/// The one column of the answer.
pub(super) fn schema() -> SchemaRef {
    text_schema(&["QUERY PLAN"])
}

/// Shows the physical plan; with ANALYZE runs the query first and shows what happened.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    statement: &Explain,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let target = match statement.statement.as_ref() {
        Statement::Insert(insert) => {
            let view = session.transaction()?.view();
            let entry = session.find_table(&view, &insert.table)?;
            Some(target_table(&*entry.ok_or_else(|| undefined_table(&insert.table))?))
        }
        _ => None,
    };
    let binding = session.binding()?;
    let (inner, types) = (statement.statement.clone(), whole.parameter_types.clone());
    let plan = on_large_stack(move || {
        let plan = bind(&binding, &inner, target.as_ref(), &types)?;
        binding.physical(plan, parameters)
    })
    .await?;
    let text = if statement.analyze {
        if !matches!(statement.statement.as_ref(), Statement::Query(_)) {
            let message = "EXPLAIN ANALYZE runs queries only";
            return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message));
        }
        analyze(session, plan).await?
    } else {
        displayable(plan.as_ref()).indent(statement.verbose).to_string()
    };
    let lines = text.lines().map(str::to_owned).collect();
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

/// Waits for its turn, runs the plan to its end, and describes it with its metrics.
async fn analyze(session: &mut Session, plan: Arc<dyn ExecutionPlan>) -> Result<String> {
    let engine = Arc::clone(session.engine());
    let nodes = engine.cluster.layout().nodes();
    let shown = Arc::clone(&plan);
    let (kind, features) = on_large_stack(move || {
        let is_managed = is_managed(&shown);
        // It is not made again: whatever workload management does, it is not restarted.
        let kind = if is_managed { QueryKind::SelectWithUdf } else { QueryKind::LeaderOnly };
        Ok((kind, features(&shown, nodes)))
    })
    .await?;
    let (seat, _claim) = session.seat(kind, features).await?;
    let planned = Planned { plan, again: None, is_source: false };
    let work = |work: Work| async move {
        let mut rows = execute_stream(Arc::clone(&work.plan), work.context)?;
        let mut count = 0;
        while let Some(batch) = rows.next().await {
            count += batch?.num_rows();
        }
        let shown = DisplayableExecutionPlan::with_metrics(work.plan.as_ref());
        Ok::<_, Error>(format!("{}rows: {count}\n", shown.indent(true)))
    };
    run_plan(&engine, seat, planned, work).await
}
