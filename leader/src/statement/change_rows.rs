//! DELETE, UPDATE and MERGE.
//!
//! The plan finds the rows by their ids, and gives the new versions of an UPDATE; new versions are
//! written like rows of an INSERT, and the old ones deleted ([`crate::transaction::deletion`]). All
//! of a statement is bound before any of it is done, so that it reads one state of the table.

use std::sync::Arc;

use compute::plan::delete_rows::RowTarget;
use compute::row_ids::{Repeated, collect_row_ids, segment_rows, take_row_ids};
use compute::{Node, write_streams};
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream_partitioned;
use datafusion::scalar::ScalarValue;
use sql::statement::{Delete, Merge, Statement, TableName, Update};
use sql::{MergeStep, TargetTable};
use wlm::QueryKind;

use super::identity::Numbered;
use super::{command, insert};
use crate::catalog::TableEntry;
use crate::cluster::{self, Cluster, Replaced};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::execution::{Replan, Work, run_plan};
use crate::pgwire::backend::Execution;
use crate::planner::on_large_stack;
use crate::session::binding::{Binding, target_table};
use crate::session::{Session, SessionStatement, undefined_table};
use crate::transaction::Written;
use crate::transaction::lock::LockMode;

/// Runs the statement. If it is the first of its transaction and another one was quicker with the
/// same rows, it begins again, alone: then nobody can be quicker.
pub(super) async fn run(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
) -> Result<Execution> {
    let transaction = session.transaction()?;
    let is_first = transaction.is_fresh();
    // What depends on other rows of the table must see all that others have done to them.
    let mode = match reads_target(&whole.statement) {
        true => LockMode::Exclusive,
        false => transaction.row_lock_mode(),
    };
    match run_once(session, whole, parameters.clone(), mode).await {
        Err(Error::Conflict { .. }) if is_first => {
            session.transaction()?.begin_again();
            run_once(session, whole, parameters, LockMode::Exclusive).await
        }
        result => result,
    }
}

async fn run_once(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
    parameters: Vec<ScalarValue>,
    mode: LockMode,
) -> Result<Execution> {
    let Locked { entry, target, open } = lock(session, whole, mode).await?;
    let binding = session.binding()?;
    let refuses_repeated = session.settings().refuses_nondeterministic_update();
    let change =
        Planned { binding, whole: Arc::clone(whole), target, parameters, refuses_repeated };
    let steps = on_large_stack(move || steps(&Arc::new(change))).await?;
    match steps {
        Steps::Delete(delete) => {
            let rows = delete.run(session, &entry).await?;
            Ok(command(format!("DELETE {rows}")))
        }
        Steps::Update(update) => {
            let rows = update.run(session, &entry).await?;
            Ok(command(format!("UPDATE {rows}")))
        }
        Steps::Merge { matched, insert } => {
            let changed = matched.run(session, &entry).await?;
            // The first step may have placed an AUTO table anew.
            let view = session.transaction()?.view();
            let entry = view.table_by_id(entry.id).map(Arc::clone).unwrap_or(entry);
            let inserted = insert::write(session, &entry, insert, QueryKind::Write).await?;
            Numbered::finish(session, &entry, open, inserted)?;
            Ok(command(format!("MERGE {}", changed + inserted)))
        }
    }
}

/// Whether what the statement does to a row may depend on other rows of the table. MERGE adds rows
/// that it does not find.
fn reads_target(statement: &Statement) -> bool {
    match statement {
        Statement::Delete(delete) => delete.may_read_target(),
        Statement::Update(update) => update.may_read_target(),
        _ => true,
    }
}

/// The target of a statement, locked for it.
struct Locked {
    entry: Arc<TableEntry>,
    target: TargetTable,
    open: Option<u64>,
}

/// Takes the lock. A row that MERGE does not find must not be one that is only not seen.
async fn lock(session: &mut Session, whole: &SessionStatement, mode: LockMode) -> Result<Locked> {
    let entry = session.lock_table_in(target_name(whole)?, mode).await?;
    if !matches!(whole.statement, Statement::Merge(_)) {
        return Ok(Locked { target: target_table(&entry), entry, open: None });
    }
    session.transaction()?.check_sees_all_rows(entry.id)?;
    let numbered = Numbered::of_query(session, &entry)?;
    let open = numbered.open();
    Ok(Locked { entry, target: numbered.target, open })
}

/// The types of the statement's parameters.
pub(super) async fn parameters(
    session: &mut Session,
    whole: &Arc<SessionStatement>,
) -> Result<Vec<DataType>> {
    let name = target_name(whole)?;
    let peek = session.transaction()?.peek();
    let entry = session.find_table(&peek, name)?.ok_or_else(|| undefined_table(name))?;
    let binding = session.binding_of(peek);
    let (whole, target) = (Arc::clone(whole), target_table(&entry));
    on_large_stack(move || {
        let types = &whole.parameter_types;
        let plan = match &whole.statement {
            Statement::Delete(delete) => binding.binder().bind_delete(delete, &target, types)?,
            Statement::Update(update) => binding.binder().bind_update(update, &target, types)?,
            _ => return merge_parameters(&binding, &whole, &target),
        };
        Ok(sql::parameter_types(&plan, types)?)
    })
    .await
}

/// A parameter of MERGE may be in one of its steps only.
fn merge_parameters(
    binding: &Binding,
    whole: &SessionStatement,
    target: &TargetTable,
) -> Result<Vec<DataType>> {
    let Statement::Merge(merge) = &whole.statement else { return Err(not_a_change()) };
    let (binder, types) = (binding.binder(), &whole.parameter_types);
    let steps = binder.merge_steps(merge, target)?;
    let matched = match &steps.matched {
        MergeStep::Update(update) => binder.bind_update(update, target, types)?,
        MergeStep::Delete(delete) => binder.bind_delete(delete, target, types)?,
    };
    let insert = binder.bind_insert(&steps.insert, target, types)?;
    let both = [matched, insert].map(|plan| plan.get_parameter_types());
    let mut used = std::collections::BTreeMap::new();
    for types in both {
        for (id, data_type) in types? {
            let position = id.trim_start_matches('$').parse::<usize>().unwrap_or(0);
            let known = used.entry(position).or_insert(None);
            *known = known.take().or(data_type);
        }
    }
    let count = used.keys().max().copied().unwrap_or(0).max(types.len());
    (1..=count)
        .map(|position| {
            let declared = types.get(position - 1).cloned().flatten();
            let found = used.get(&position).cloned().flatten();
            declared.or(found).ok_or_else(|| {
                let message = format!("could not determine data type of parameter ${position}");
                Error::statement("42P18", message)
            })
        })
        .collect()
}

/// What a statement does.
enum Steps {
    Delete(RowsToDelete),
    Update(RowsToReplace),
    Merge { matched: Matched, insert: Replan },
}

/// What MERGE does with the rows that match.
enum Matched {
    Delete(RowsToDelete),
    Update(RowsToReplace),
}

/// Plans of row ids.
struct RowsToDelete {
    source: Replan,
    repeated: Repeated,
}

/// Plans of new rows, with the ids of the old ones in the last column.
struct RowsToReplace {
    source: Replan,
    repeated: Repeated,
}

/// What plans of a statement are made of: however often they are made, they read one state of the
/// tables.
struct Planned {
    binding: Binding,
    whole: Arc<SessionStatement>,
    target: TargetTable,
    parameters: Vec<ScalarValue>,
    /// error_on_nondeterministic_update
    refuses_repeated: bool,
}

impl Planned {
    /// The source that a bound plan gives.
    fn source(self: &Arc<Self>, plan: LogicalPlan) -> Replan {
        let own = Arc::clone(self);
        Arc::new(move || own.binding.source(plan.clone(), own.parameters.clone()))
    }

    fn delete(self: &Arc<Self>, delete: &Delete, repeated: Repeated) -> Result<RowsToDelete> {
        let types = &self.whole.parameter_types;
        let plan = self.binding.binder().bind_delete(delete, &self.target, types)?;
        Ok(RowsToDelete { source: self.source(plan), repeated })
    }

    fn update(self: &Arc<Self>, update: &Update, repeated: Repeated) -> Result<RowsToReplace> {
        let types = &self.whole.parameter_types;
        let plan = self.binding.binder().bind_update(update, &self.target, types)?;
        Ok(RowsToReplace { source: self.source(plan), repeated })
    }
}

fn steps(change: &Arc<Planned>) -> Result<Steps> {
    match &change.whole.statement {
        Statement::Delete(statement) => {
            Ok(Steps::Delete(change.delete(statement, repeated(statement.using.is_empty()))?))
        }
        Statement::Update(statement) => {
            let repeated = match repeated(statement.from.is_empty()) {
                Repeated::FirstCounts if change.refuses_repeated => Repeated::Refused,
                repeated => repeated,
            };
            Ok(Steps::Update(change.update(statement, repeated)?))
        }
        Statement::Merge(merge) => {
            let (binding, target) = (&change.binding, &change.target);
            refuse_self_merge(binding, merge, target)?;
            let steps = binding.binder().merge_steps(merge, target)?;
            let matched = match &steps.matched {
                MergeStep::Delete(statement) => {
                    Matched::Delete(change.delete(statement, Repeated::Refused)?)
                }
                MergeStep::Update(statement) => {
                    Matched::Update(change.update(statement, Repeated::Refused)?)
                }
            };
            let types = &change.whole.parameter_types;
            let insert = binding.binder().bind_insert(&steps.insert, target, types)?;
            Ok(Steps::Merge { matched, insert: change.source(insert) })
        }
        _ => Err(not_a_change()),
    }
}

/// Only a join finds a row twice.
fn repeated(is_alone: bool) -> Repeated {
    if is_alone { Repeated::Never } else { Repeated::FirstCounts }
}

/// The source of a MERGE is another table than its target.
pub(super) fn refuse_self_merge(
    binding: &Binding,
    merge: &Merge,
    target: &TargetTable,
) -> Result<()> {
    let sql::ast::TableFactor::Table { name, .. } = &merge.source else { return Ok(()) };
    let parts: Vec<&str> =
        name.0.iter().filter_map(|part| Some(part.as_ident()?.value.as_str())).collect();
    let Some((name, qualifiers)) = parts.split_last() else { return Ok(()) };
    let found = sql::Catalog::table(binding, qualifiers.last().copied(), name);
    let is_target =
        found.is_some_and(|found| (&found.schema, &found.name) == (&target.schema, &target.name));
    if is_target {
        let message = "source view/table cannot be the same as target table";
        return Err(Error::statement(crate::error::code::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(())
}

impl Matched {
    async fn run(self, session: &mut Session, entry: &Arc<TableEntry>) -> Result<u64> {
        match self {
            Self::Delete(delete) => delete.run(session, entry).await,
            Self::Update(update) => update.run(session, entry).await,
        }
    }
}

impl RowsToDelete {
    /// Finds the rows and deletes them. Answers with their number.
    async fn run(self, session: &mut Session, entry: &Arc<TableEntry>) -> Result<u64> {
        let rows = find(session, entry, self.source, self.repeated).await?;
        let count = row_count(&rows);
        session.transaction()?.delete_rows(entry.id, rows).await?;
        Ok(count)
    }
}

/// The rows of a table whose ids a plan gives.
pub(super) async fn find(
    session: &mut Session,
    entry: &TableEntry,
    source: Replan,
    repeated: Repeated,
) -> Result<Replaced> {
    let engine = Arc::clone(session.engine());
    let target = row_target(&engine, entry, repeated);
    let insert::Admitted { planned, seat, claim: _claim, .. } =
        insert::admit(session, source, QueryKind::Write).await?;
    match &engine.cluster {
        Cluster::Alone(_) => {
            let work = move |work: Work| {
                let target = target.clone();
                async move {
                    let collector = target.collector(&work.context);
                    let streams = execute_stream_partitioned(work.plan, work.context)?;
                    collect_row_ids(streams, &collector).await?;
                    Ok(collector.finish())
                }
            };
            run_plan(&engine, seat, planned, work).await
        }
        Cluster::Nodes(_) => {
            let running = Arc::clone(&engine);
            let work = move |work: Work| {
                let (engine, target) = (Arc::clone(&running), target.clone());
                async move { cluster::delete(&engine, work.plan, target, work.context).await }
            };
            run_plan(&engine, seat, planned, work).await
        }
    }
}

impl RowsToReplace {
    /// Writes the new rows and deletes the old ones. Answers with their number.
    async fn run(self, session: &mut Session, entry: &Arc<TableEntry>) -> Result<u64> {
        let engine = Arc::clone(session.engine());
        let row_target = row_target(&engine, entry, self.repeated);
        let insert::Admitted { planned, seat, claim: _claim, .. } =
            insert::admit(session, self.source, QueryKind::Write).await?;
        let (written, replaced) = match &engine.cluster {
            Cluster::Alone(node) => {
                let (running, node, table) =
                    (Arc::clone(&engine), Arc::clone(node), Arc::clone(entry));
                let work = move |work: Work| {
                    let (engine, node) = (Arc::clone(&running), Arc::clone(&node));
                    let (entry, row_target) = (Arc::clone(&table), row_target.clone());
                    async move { replace_here(&engine, &node, &entry, &row_target, work).await }
                };
                run_plan(&engine, seat, planned, work).await?
            }
            Cluster::Nodes(nodes) => {
                let (running, nodes, table) =
                    (Arc::clone(&engine), Arc::clone(nodes), Arc::clone(entry));
                let work = move |work: Work| {
                    let (engine, nodes) = (Arc::clone(&running), Arc::clone(&nodes));
                    let (entry, replaces) = (Arc::clone(&table), Some(row_target.clone()));
                    async move {
                        let Work { plan, context, .. } = work;
                        cluster::replace(&engine, &nodes, &entry, plan, replaces, context).await
                    }
                };
                run_plan(&engine, seat, planned, work).await?
            }
        };
        replace(session, entry, written, replaced).await
    }
}

/// Writes the rows of the plan on the one node, and collects the ids of those that they replace.
async fn replace_here(
    engine: &Engine,
    node: &Arc<Node>,
    entry: &TableEntry,
    row_target: &RowTarget,
    work: Work,
) -> Result<(Written, Replaced)> {
    let collector = row_target.collector(&work.context);
    let streams = execute_stream_partitioned(work.plan, Arc::clone(&work.context))?;
    let streams = streams
        .into_iter()
        .map(|stream| take_row_ids(stream, Arc::clone(&collector)))
        .collect::<Result<_, _>>()?;
    let target = insert::write_target(engine, node, entry);
    let outcome = write_streams(node, target, streams, work.context).await?;
    Ok((insert::shared(engine, entry, outcome), collector.finish()))
}

/// Makes new rows, and the end of those that they replace, part of the transaction.
async fn replace(
    session: &mut Session,
    entry: &Arc<TableEntry>,
    written: Written,
    replaced: Replaced,
) -> Result<u64> {
    let written = insert::record(session, entry, written)?;
    let count = row_count(&replaced);
    if written != count {
        let text = format!("{count} rows were to be replaced, {written} were written");
        return Err(Error::Internal(text));
    }
    session.transaction()?.delete_rows(entry.id, replaced).await?;
    Ok(count)
}

/// How many rows those are.
pub(super) fn row_count(rows: &Replaced) -> u64 {
    rows.iter().map(|(_, rows)| rows.len()).sum()
}

/// The rows that a plan over the target may hit.
fn row_target(engine: &Engine, entry: &TableEntry, repeated: Repeated) -> RowTarget {
    RowTarget { segments: Arc::new(segment_rows(&engine.table_version(entry))), repeated }
}

fn target_name(whole: &SessionStatement) -> Result<&TableName> {
    match &whole.statement {
        Statement::Delete(delete) => Ok(&delete.table),
        Statement::Update(update) => Ok(&update.table),
        Statement::Merge(merge) => Ok(&merge.table),
        _ => Err(not_a_change()),
    }
}

fn not_a_change() -> Error {
    Error::Internal("not a statement that changes rows".into())
}
