//! INSERT, and the write that INSERT, CREATE TABLE AS and COPY share.

use std::sync::Arc;

use compute::{WriteOutcome, WriteTarget, write_table};
use datafusion::arrow::datatypes::DataType;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::scalar::ScalarValue;
use sql::statement::{Insert, Statement};
use wlm::QueryKind;

use super::command;
use crate::catalog::{Change, TableEntry};
use crate::cluster::{self, Cluster};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::execution::{Planned, Replan, Work, run_plan};
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::binding::target_table;
use crate::session::{Session, SessionStatement};
use crate::workload::features;

/// Plans the source, writes its rows to the table's slices, and makes them part of the
/// transaction.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let entry = session.lock_table(&insert_of(whole)?.table).await?;
    let binding = session.binding()?;
    let (whole, target) = (Arc::clone(whole), target_table(&entry));
    let plan = on_large_stack(move || {
        let plan =
            binding.binder().bind_insert(insert_of(&whole)?, &target, &whole.parameter_types)?;
        binding.source(plan, parameters)
    })
    .await?;
    let row_count = write(session, &entry, source(plan, None), QueryKind::Write).await?;
    Ok(command(format!("INSERT 0 {row_count}")))
}

/// The types of the statement's parameters.
pub(super) async fn parameters(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
) -> Result<Vec<DataType>> {
    let name = &insert_of(whole)?.table;
    let view = session.transaction()?.view();
    let entry =
        session.find_table(&view, name)?.ok_or_else(|| crate::session::undefined_table(name))?;
    let binding = session.binding()?;
    let (whole, target) = (Arc::clone(whole), target_table(&entry));
    on_large_stack(move || {
        let plan =
            binding.binder().bind_insert(insert_of(&whole)?, &target, &whole.parameter_types)?;
        Ok(sql::parameter_types(&plan, &whole.parameter_types)?)
    })
    .await
}

/// A source plan as it is executed: its rows are written.
pub(super) fn source(plan: Arc<dyn ExecutionPlan>, again: Option<Replan>) -> Planned {
    Planned { plan, again, is_source: true }
}

/// Waits for its turn, writes the rows of a source plan into a table and records them in the
/// transaction. Answers with their number.
pub(super) async fn write(
    session: &mut Session,
    entry: &Arc<TableEntry>,
    planned: Planned,
    kind: QueryKind,
) -> Result<u64> {
    let engine = Arc::clone(session.engine());
    let nodes = engine.cluster.layout().nodes();
    let shown = Arc::clone(&planned.plan);
    let features = on_large_stack(move || Ok(features(&shown, nodes))).await?;
    let (seat, _claim) = session.seat(kind, features).await?;
    let outcome = match &engine.cluster {
        Cluster::Alone(node) => {
            let planned = Planned { is_source: false, ..planned };
            let (target, node) = (write_target(&engine, entry), Arc::clone(node));
            let work = move |work: Work| {
                let (target, node) = (target.clone(), Arc::clone(&node));
                async move {
                    let written = write_table(&node, target, work.plan, work.context).await;
                    written.map_err(Error::from)
                }
            };
            run_plan(&engine, seat, planned, work).await?
        }
        Cluster::Nodes(nodes) => {
            let (shared, nodes, target) =
                (Arc::clone(&engine), Arc::clone(nodes), Arc::clone(entry));
            let work = move |work: Work| {
                let (engine, nodes) = (Arc::clone(&shared), Arc::clone(&nodes));
                let entry = Arc::clone(&target);
                async move { cluster::write(&engine, &nodes, &entry, work.plan, work.context).await }
            };
            run_plan(&engine, seat, planned, work).await?
        }
    };
    record(session, entry, outcome)
}

/// What a write needs to know of its table.
pub(super) fn write_target(engine: &Arc<Engine>, entry: &TableEntry) -> WriteTarget {
    let transactions = Arc::clone(&engine.transactions);
    WriteTarget {
        version: Arc::new(engine.table_version(entry)),
        new_segment_id: Arc::new(move || transactions.new_segment_id()),
    }
}

/// Makes written segments part of the transaction.
pub(super) fn record(
    session: &mut Session,
    entry: &TableEntry,
    outcome: WriteOutcome,
) -> Result<u64> {
    let segments =
        outcome.segments.into_iter().map(|(slice, info)| (slice, Arc::new(info))).collect();
    session.transaction()?.change(Change::AddSegments(entry.id, segments))?;
    Ok(outcome.row_count)
}

fn insert_of(whole: &SessionStatement) -> Result<&Insert> {
    match &whole.statement {
        Statement::Insert(insert) => Ok(insert),
        _ => Err(Error::Internal("not an insert".into())),
    }
}
