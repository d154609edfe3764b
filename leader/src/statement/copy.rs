//! COPY table FROM 's3://bucket/prefix'. All rows of all objects become visible with the commit,
//! or none.

use std::future::Future;
use std::sync::Arc;

use compute::Node;
use compute::load::{
    Compression, Conversion, CopyRequest, CountedColumn, DateFormat, DatePattern, Format,
    OmittedColumn, TargetColumn, TimeFormat, TimestampPattern,
};
use compute::object_storage::{Credentials, Secret};
use datafusion::execution::TaskContext;
use datafusion::scalar::ScalarValue;
use sql::statement::{Authorization, Copy, CopyFormat};
use sql::types::SqlType;
use wlm::{PlanFeatures, QueryKind};

use super::{command, identity, insert, placement};
use crate::catalog::table::column_type;
use crate::catalog::{TableColumn, TableEntry};
use crate::cluster::{self, Cluster, NodeSet};
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::execution::{Replan, run_work};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::planner::on_large_stack;
use crate::session::Session;
use crate::transaction::Written;

/// Reads the objects, writes their rows, and makes them part of the transaction.
pub(super) async fn run(session: &mut Session, statement: &Copy) -> Result<Execution> {
    refuse_unsupported(statement)?;
    let entry = lock(session, statement).await?;
    let request = request(session, statement, &entry).await?;
    let row_count = load(session, &entry, request).await?;
    let text = format!(
        "Load into table '{}' completed, {row_count} record(s) loaded successfully.",
        entry.name
    );
    session.notice(Severity::Info, text);
    Ok(command("COPY"))
}

/// Takes the lock of the table; alone if its rows get numbers, since nobody knows how many they are.
async fn lock(session: &mut Session, statement: &Copy) -> Result<Arc<TableEntry>> {
    let peek = session.transaction()?.peek();
    let found = session.find_table(&peek, &statement.table)?;
    let alone = found.is_some_and(|entry| identity::has_identity(&entry));
    let entry = session.lock_to_insert(&statement.table, alone).await?;
    // The name may have become another table's.
    match !alone && identity::has_identity(&entry) {
        true => session.lock_table(&statement.table).await,
        false => Ok(entry),
    }
}

/// Waits for its turn, then reads and writes at once. Answers with the number of rows.
async fn load(session: &mut Session, entry: &Arc<TableEntry>, request: CopyRequest) -> Result<u64> {
    let engine = Arc::clone(session.engine());
    // What a load will read is not known before its objects are listed.
    let (seat, _claim) = session.seat(QueryKind::Copy, PlanFeatures::default()).await?;
    let context = seat.context(&engine)?;
    let counted: Vec<usize> = request.counted.iter().map(|column| column.position).collect();
    let (written, entry) = match &engine.cluster {
        Cluster::Alone(node) => {
            let load = load_here(&engine, Arc::clone(node), entry, request, context);
            (run_work(&engine, seat, load).await?, Arc::clone(entry))
        }
        Cluster::Nodes(nodes) => {
            let (shared, nodes, target) =
                (Arc::clone(&engine), Arc::clone(nodes), Arc::clone(entry));
            let load =
                async move { load_on_nodes(&shared, &nodes, &target, request, context).await };
            run_work(&engine, seat, load).await?
        }
    };
    if !counted.is_empty() {
        identity::finish_written(session, &entry, &counted, &written)?;
    }
    insert::record(session, &entry, written)
}

fn load_here(
    engine: &Arc<Engine>,
    node: Arc<Node>,
    entry: &Arc<TableEntry>,
    request: CopyRequest,
    context: Arc<TaskContext>,
) -> impl Future<Output = Result<Written>> + Send + use<> {
    let (running, entry) = (Arc::clone(engine), Arc::clone(entry));
    async move {
        let target = insert::write_target(&running, &node, &entry);
        let plan = compute::load::plan(request, &running.object_storage, node.slices()).await?;
        let streams = (0..plan.partitions()).map(|at| plan.execute(at)).collect();
        let outcome = compute::write_streams(&node, target, streams, context).await?;
        let written = insert::shared(&running, &entry, outcome);
        let loaded: u64 = plan.finish()?.iter().map(|file| file.rows).sum();
        if loaded != written.row_count() {
            let rows = written.row_count();
            return Err(Error::Internal(format!("{loaded} rows were read, {rows} written")));
        }
        Ok(written)
    }
}

/// The leader lists the objects; each node reads its share of them. Answers also with the table as
/// the rows were written for it.
async fn load_on_nodes(
    engine: &Arc<Engine>,
    nodes: &Arc<NodeSet>,
    entry: &Arc<TableEntry>,
    request: CopyRequest,
    context: Arc<TaskContext>,
) -> Result<(Written, Arc<TableEntry>)> {
    let layout = nodes.layout();
    let plan = compute::load::plan(request, &engine.object_storage, layout.slices()).await?;
    let entry = placement::before_write(entry, placement::is_large(0, plan.bytes()));
    let shares = plan.into_shares(layout.nodes());
    let loading = Arc::clone(engine);
    let source: Replan = Arc::new(move || loading.planner.load(shares.clone()));
    let written = cluster::write_repeatedly(engine, nodes, &entry, &source, &context).await?;
    Ok((written, entry))
}

/// What parses but is not done yet, by name.
fn refuse_unsupported(statement: &Copy) -> Result<()> {
    let (escape, remove_quotes) = match statement.format {
        CopyFormat::Delimited { escape, remove_quotes, .. } => (escape, remove_quotes),
        CopyFormat::Csv { .. } | CopyFormat::Parquet => (false, false),
    };
    let refused = [
        ("MANIFEST", statement.manifest),
        ("MAXERROR", statement.max_error > 0),
        ("NOLOAD", statement.no_load),
        ("ACCEPTINVCHARS", statement.accept_invalid_characters.is_some()),
        ("ESCAPE", escape),
        ("REMOVEQUOTES", remove_quotes),
    ];
    match refused.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("COPY option {name} is not supported yet");
            Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message))
        }
    }
}

async fn request(
    session: &mut Session,
    statement: &Copy,
    entry: &Arc<TableEntry>,
) -> Result<CopyRequest> {
    let positions = positions(statement, entry)?;
    let columns = positions.iter().map(|at| target(&entry.columns[*at], *at)).collect();
    let omitted = omitted(session, entry, &positions).await?;
    let counted = counted(session, entry, &positions)?;
    Ok(CopyRequest {
        url: statement.source.clone(),
        credentials: credentials(&statement.authorization),
        region: statement.region.clone(),
        format: match statement.format {
            CopyFormat::Delimited { delimiter, .. } => Format::Delimited { delimiter },
            CopyFormat::Csv { delimiter, quote } => Format::Csv { delimiter, quote },
            CopyFormat::Parquet => Format::Parquet,
        },
        compression: match statement.compression {
            sql::statement::Compression::None => Compression::None,
            sql::statement::Compression::Gzip => Compression::Gzip,
            sql::statement::Compression::Zstd => Compression::Zstd,
        },
        conversion: conversion(statement)?,
        columns,
        omitted,
        counted,
        schema: entry.arrow_schema(),
    })
}

/// The columns that the files hold: those that are named, or all but the identity columns that no
/// statement may set.
fn positions(statement: &Copy, entry: &TableEntry) -> Result<Vec<usize>> {
    let counts = |at: &usize| entry.columns[*at].identity.is_some_and(|own| !own.by_default);
    if statement.columns.is_empty() {
        let all = 0..entry.columns.len();
        return Ok(all.filter(|at| statement.explicit_ids || !counts(at)).collect());
    }
    let named: Vec<usize> =
        statement.columns.iter().map(|name| entry.position(name)).collect::<Result<_>>()?;
    if !statement.explicit_ids && named.iter().any(counts) {
        let message = "cannot set an identity column to a value";
        return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message)
            .with_hint("Use EXPLICIT_IDS to load its values."));
    }
    if statement.explicit_ids
        && let Some(at) = (0..entry.columns.len()).find(|at| counts(at) && !named.contains(at))
    {
        let column = &entry.columns[at].name;
        let message =
            format!("EXPLICIT_IDS needs the identity column \"{column}\" in the column list");
        return Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message));
    }
    Ok(named)
}

/// The identity columns that the files do not hold. The table must be locked alone if there are any.
fn counted(
    session: &mut Session,
    entry: &TableEntry,
    named: &[usize],
) -> Result<Vec<CountedColumn>> {
    let mut counted = Vec::new();
    for (position, column) in entry.columns.iter().enumerate() {
        let Some(identity) = column.identity.filter(|_| !named.contains(&position)) else {
            continue;
        };
        let number = session.transaction()?.take_numbers(entry, 0)?;
        let first = identity.value(number, column.sql_type)?;
        counted.push(CountedColumn { position, first, step: identity.step });
    }
    Ok(counted)
}

fn target(column: &TableColumn, position: usize) -> TargetColumn {
    let (bytes_max, is_char) = match column.sql_type {
        SqlType::Char(bytes) => (Some(bytes), true),
        SqlType::VarChar(bytes) => (Some(bytes), false),
        _ => (None, false),
    };
    TargetColumn {
        name: column.name.clone(),
        column_type: column_type(column.sql_type),
        type_name: column.sql_type.to_string(),
        bytes_max,
        is_char,
        nullable: column.nullable,
        position,
    }
}

/// The columns that the files do not hold, with the values of their DEFAULTs.
async fn omitted(
    session: &mut Session,
    entry: &Arc<TableEntry>,
    named: &[usize],
) -> Result<Vec<OmittedColumn>> {
    if named.len() == entry.columns.len() {
        return Ok(Vec::new());
    }
    let binding = session.binding()?;
    let (entry, named) = (Arc::clone(entry), named.to_vec());
    on_large_stack(move || {
        let mut omitted = Vec::new();
        for (position, column) in entry.columns.iter().enumerate() {
            if named.contains(&position) || column.identity.is_some() {
                continue;
            }
            let value = match &column.default {
                Some(text) => {
                    let default = binding.binder().bind_default_expr(text, column.sql_type)?;
                    binding.constant(&default)?
                }
                None => ScalarValue::try_new_null(&column.sql_type.arrow_type())?,
            };
            omitted.push(OmittedColumn { position, value });
        }
        Ok(omitted)
    })
    .await
}

fn credentials(authorization: &Authorization) -> Credentials {
    match authorization {
        Authorization::Server | Authorization::IamRole(_) => Credentials::Default,
        Authorization::Keys { access_key_id, secret_access_key, session_token } => {
            Credentials::Keys {
                access_key_id: access_key_id.clone(),
                secret_access_key: Secret::new(secret_access_key.expose()),
                session_token: session_token.as_ref().map(|token| Secret::new(token.expose())),
            }
        }
    }
}

fn conversion(statement: &Copy) -> Result<Conversion> {
    let defaults = Conversion::default();
    Ok(Conversion {
        ignore_header: usize::try_from(statement.ignore_header).unwrap_or(usize::MAX),
        null_as: statement.null_as.clone().unwrap_or(defaults.null_as),
        date_format: date_format(statement.date_format.as_deref())?,
        time_format: time_format(statement.time_format.as_deref())?,
        empty_as_null: statement.empty_as_null,
        blanks_as_null: statement.blanks_as_null,
        truncate_columns: statement.truncate_columns,
        trim_blanks: statement.trim_blanks,
        ignore_blank_lines: statement.ignore_blank_lines,
        fill_record: statement.fill_record,
        accept_any_date: defaults.accept_any_date,
        round_decimals: defaults.round_decimals,
    })
}

fn date_format(text: Option<&str>) -> Result<DateFormat> {
    match text {
        None => Ok(DateFormat::Iso),
        Some(text) if text.eq_ignore_ascii_case("auto") => Ok(DateFormat::Auto),
        Some(text) => match DatePattern::parse(text) {
            Some(pattern) => Ok(DateFormat::Pattern(pattern)),
            None => Err(invalid_format("DATEFORMAT", text)),
        },
    }
}

fn time_format(text: Option<&str>) -> Result<TimeFormat> {
    let Some(text) = text else { return Ok(TimeFormat::Iso) };
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(TimeFormat::Auto),
        "epochsecs" => Ok(TimeFormat::EpochSeconds),
        "epochmillisecs" => Ok(TimeFormat::EpochMillis),
        _ => match TimestampPattern::parse(text) {
            Some(pattern) => Ok(TimeFormat::Pattern(pattern)),
            None => Err(invalid_format("TIMEFORMAT", text)),
        },
    }
}

fn invalid_format(option: &str, text: &str) -> Error {
    let message = format!("invalid {option} \"{text}\"");
    Error::statement(code::INVALID_PARAMETER_VALUE, message)
}
