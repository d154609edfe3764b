//! INSERT, and the write that INSERT, CREATE TABLE AS and COPY share.

use std::sync::Arc;

use compute::{Node, WriteOutcome, WriteTarget, write_table};
use datafusion::arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;
use sql::statement::{Insert, Statement};
use wlm::QueryKind;

use super::identity::{self, Numbered};
use super::{command, placement};
use crate::catalog::{Change, TableEntry};
use crate::cluster::{self, Cluster};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::execution::{Planned, Replan, Work, run_plan};
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::binding::target_table;
use crate::session::{Session, SessionStatement};
use crate::transaction::Written;
use crate::workload::{Claim, Seat, features};

/// Plans the source, writes its rows to the table's slices, and makes them part of the
/// transaction.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let insert = insert_of(whole)?;
    let entry = identity::lock_to_insert(session, insert).await?;
    let numbered = Numbered::of_insert(session, &entry, insert)?;
    let open = numbered.open();
    let binding = session.binding()?;
    let (whole, target) = (Arc::clone(whole), numbered.target);
    let source: Replan = Arc::new(move || {
        let plan =
            binding.binder().bind_insert(insert_of(&whole)?, &target, &whole.parameter_types)?;
        binding.source(plan, parameters.clone())
    });
    let row_count = write(session, &entry, source, QueryKind::Write).await?;
    Numbered::finish(session, &entry, open, row_count)?;
    Ok(command(format!("INSERT 0 {row_count}")))
}

/// The types of the statement's parameters.
pub(super) async fn parameters(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
) -> Result<Vec<DataType>> {
    let name = &insert_of(whole)?.table;
    let peek = session.transaction()?.peek();
    let entry =
        session.find_table(&peek, name)?.ok_or_else(|| crate::session::undefined_table(name))?;
    let binding = session.binding_of(peek);
    let (whole, target) = (Arc::clone(whole), target_table(&entry));
    on_large_stack(move || {
        let plan =
            binding.binder().bind_insert(insert_of(&whole)?, &target, &whole.parameter_types)?;
        Ok(sql::parameter_types(&plan, &whole.parameter_types)?)
    })
    .await
}

/// A source whose turn it is.
pub(super) struct Admitted {
    pub(super) planned: Planned,
    pub(super) seat: Seat,
    /// Rows of the tables that it reads.
    pub(super) source_rows: u64,
    /// Held until the statement is done.
    pub(super) claim: Option<Arc<Claim>>,
}

/// Plans a source and waits for its turn.
pub(super) async fn admit(
    session: &mut Session,
    source: Replan,
    kind: QueryKind,
) -> Result<Admitted> {
    let engine = Arc::clone(session.engine());
    let nodes = engine.cluster.layout().nodes();
    let first = Arc::clone(&source);
    let (plan, features) = on_large_stack(move || {
        let plan = first()?;
        let features = features(&plan, nodes);
        Ok((plan, features))
    })
    .await?;
    let source_rows = features.rows;
    let (seat, claim) = session.seat(kind, features).await?;
    let is_source = matches!(engine.cluster, Cluster::Nodes(_));
    let planned = Planned { plan, again: Some(source), is_source };
    Ok(Admitted { planned, seat, source_rows, claim })
}

/// Waits for its turn, writes the rows of a source into a table and records them in the transaction.
/// Answers with their number.
pub(super) async fn write(
    session: &mut Session,
    entry: &Arc<TableEntry>,
    source: Replan,
    kind: QueryKind,
) -> Result<u64> {
    let admitted = admit(session, source, kind).await?;
    // Few rows may become many in a join; then the table is placed anew when they are there.
    let is_large = placement::is_large(admitted.source_rows, 0);
    let entry = &placement::before_write(entry, is_large);
    let written = write_segments(session.engine(), entry, admitted).await?;
    record(session, entry, written)
}

/// Writes the rows of a source as segments of a table; they are nobody's yet.
pub(super) async fn write_segments(
    engine: &Arc<Engine>,
    entry: &Arc<TableEntry>,
    Admitted { planned, seat, claim: _claim, .. }: Admitted,
) -> Result<Written> {
    match &engine.cluster {
        Cluster::Alone(node) => {
            let (running, node, table) = (Arc::clone(engine), Arc::clone(node), Arc::clone(entry));
            let work = move |work: Work| {
                let (engine, node) = (Arc::clone(&running), Arc::clone(&node));
                let entry = Arc::clone(&table);
                async move {
                    let target = write_target(&engine, &node, &entry);
                    let written = write_table(&node, target, work.plan, work.context).await?;
                    Ok(shared(&engine, &entry, written))
                }
            };
            run_plan(engine, seat, planned, work).await
        }
        Cluster::Nodes(nodes) => {
            let (running, nodes, target) =
                (Arc::clone(engine), Arc::clone(nodes), Arc::clone(entry));
            let work = move |work: Work| {
                let (engine, nodes) = (Arc::clone(&running), Arc::clone(&nodes));
                let entry = Arc::clone(&target);
                async move { cluster::write(&engine, &nodes, &entry, work.plan, work.context).await }
            };
            run_plan(engine, seat, planned, work).await
        }
    }
}

/// What a write needs to know of its table.
pub(super) fn write_target(engine: &Engine, node: &Node, entry: &TableEntry) -> WriteTarget {
    let transactions = Arc::clone(&engine.transactions);
    WriteTarget {
        version: Arc::new(engine.write_version(entry)),
        slices: node.own_slices(),
        new_segment_id: Arc::new(move || transactions.new_segment_id()),
    }
}

/// What the one node has written.
pub(super) fn shared(engine: &Engine, entry: &TableEntry, outcome: WriteOutcome) -> Written {
    let segments = outcome.segments.into_iter().map(|(slice, info)| (slice, Arc::new(info)));
    Written::new(&engine.transactions, entry, segments.collect())
}

/// Makes written segments part of the transaction; `entry` is the table as they were written for it.
pub(super) fn record(session: &mut Session, entry: &TableEntry, written: Written) -> Result<u64> {
    let (style, row_count) =
        (placement::after_write(entry, written.segments()), written.row_count());
    let transaction = session.transaction()?;
    let known = transaction.view().table_by_id(entry.id).map(|known| known.distribution);
    if known != Some(style) {
        transaction.change(Change::Place(entry.id, style))?;
    }
    transaction.add(written)?;
    Ok(row_count)
}

fn insert_of(whole: &SessionStatement) -> Result<&Insert> {
    match &whole.statement {
        Statement::Insert(insert) => Ok(insert),
        _ => Err(Error::Internal("not an insert".into())),
    }
}
