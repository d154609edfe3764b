//! CREATE TABLE with columns or LIKE.

use std::sync::Arc;

use compute::Deletions;
use sql::statement::{
    ColumnDefinition, Constraint, CreateTable, DistStyle, Encoding, LikeTable, NamedConstraint,
    SortKey, TableAttributes, TableName,
};
use storage::ids::ColumnId;
use storage::schema::EncodeName;

use super::command;
use crate::catalog::change::dropped_meanwhile;
use crate::catalog::constraint::{ConstraintEntry, ConstraintKind, Referenced};
use crate::catalog::{Change, DistributionStyle, SegmentList, TableColumn, TableEntry};
use crate::engine::Engine;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::temporary::is_temporary;
use crate::session::{Session, undefined_table};
use crate::transaction::lock::LockMode;

/// Makes an empty table.
pub(super) async fn run(session: &mut Session, statement: &CreateTable) -> Result<Execution> {
    let constraints = statement.constraints.iter().map(|named| &named.constraint);
    lock_referenced(session, constraints).await?;
    let schema = if statement.temporary {
        session.temporary_schema_for_new()?
    } else {
        session.creation_schema(&statement.name)?
    };
    let name = &statement.name.name;
    let exists = session.transaction()?.view().table(&schema, name).is_some();
    if exists && statement.if_not_exists {
        let text = format!("Relation \"{name}\" already exists and will be skipped");
        session.notice(Severity::Info, text);
        return Ok(command("CREATE TABLE"));
    }
    let mut entry = match &statement.like {
        Some(like) => like_entry(session, like)?,
        None => empty_entry(),
    };
    entry.columns.extend(statement.columns.iter().map(column));
    finish_entry(session, &mut entry, schema, name, &statement.attributes)?;
    check_defaults(session, &entry.columns)?;
    for named in &statement.constraints {
        add_constraint(session, &mut entry, named).await?;
    }
    let keys = entry.constraints.iter().filter(|key| key.kind == ConstraintKind::PrimaryKey);
    // Also of columns that LIKE has brought.
    for position in keys.flat_map(|key| &key.columns) {
        entry.columns[*position].nullable = false;
    }
    session.transaction()?.change(Change::CreateTable(Arc::new(entry)))?;
    Ok(command("CREATE TABLE"))
}

/// Locks what foreign keys stand for before the statement's snapshot is taken, so that it sees what
/// who had it before has made of it.
async fn lock_referenced(
    session: &mut Session,
    constraints: impl Iterator<Item = &Constraint>,
) -> Result<()> {
    for constraint in constraints {
        let Constraint::ForeignKey { table, .. } = constraint else { continue };
        let peek = session.transaction()?.peek();
        let Some(found) = session.find_table(&peek, table).ok().flatten() else { continue };
        if session.check_owner(&found.owner, "relation", &found.name).is_ok() {
            session.lock_if_exists(table, LockMode::Insert).await?;
        }
    }
    Ok(())
}

/// Refuses a DEFAULT that no row could have.
pub(super) fn check_defaults(session: &mut Session, columns: &[TableColumn]) -> Result<()> {
    let binding = session.binding()?;
    for column in columns {
        if let Some(default) = &column.default {
            binding.binder().bind_default_expr(default, column.sql_type)?;
        }
    }
    Ok(())
}

/// Adds a constraint to a table that is being made or altered.
pub(super) async fn add_constraint(
    session: &mut Session,
    entry: &mut TableEntry,
    named: &NamedConstraint,
) -> Result<()> {
    let mut new = constraint_entry(session, entry, &named.constraint).await?;
    let is_primary = |known: &ConstraintEntry| known.kind == ConstraintKind::PrimaryKey;
    if is_primary(&new) && entry.constraints.iter().any(is_primary) {
        let message = format!("multiple primary keys for table \"{}\" are not allowed", entry.name);
        return Err(Error::statement("42P16", message));
    }
    let Some(name) = &named.name else {
        entry.constraints.push(new);
        distinguish_names(&mut entry.constraints);
        return Ok(());
    };
    if entry.constraints.iter().any(|known| known.name == *name) {
        let message =
            format!("constraint \"{name}\" for relation \"{}\" already exists", entry.name);
        return Err(Error::statement(code::DUPLICATE_OBJECT, message));
    }
    name.clone_into(&mut new.name);
    entry.constraints.push(new);
    Ok(())
}

/// A key of the table, with the name that Postgres would give it.
async fn constraint_entry(
    session: &mut Session,
    entry: &TableEntry,
    constraint: &Constraint,
) -> Result<ConstraintEntry> {
    let (columns, kind, suffix) = match constraint {
        Constraint::PrimaryKey(columns) => (columns, ConstraintKind::PrimaryKey, "pkey"),
        Constraint::Unique(columns) => (columns, ConstraintKind::Unique, "key"),
        Constraint::ForeignKey { columns, table, referenced } => {
            let kind = ConstraintKind::ForeignKey {
                schema: table.schema.clone(),
                table: table.name.clone(),
                referenced: referenced.clone(),
                found: referenced_by(session, entry, table, referenced).await?,
            };
            (columns, kind, "fkey")
        }
    };
    let name = if kind == ConstraintKind::PrimaryKey {
        format!("{}_{suffix}", entry.name)
    } else {
        format!("{}_{}_{suffix}", entry.name, columns.join("_"))
    };
    Ok(ConstraintEntry {
        oid: session.engine().transactions.new_oid(),
        name,
        columns: columns.iter().map(|name| entry.position(name)).collect::<Result<_>>()?,
        kind,
    })
}

/// What a foreign key of a table stands for, which stays there until the transaction ends. Of somebody
/// else's table the names are kept and nothing more.
async fn referenced_by(
    session: &mut Session,
    entry: &TableEntry,
    name: &TableName,
    columns: &[String],
) -> Result<Option<Referenced>> {
    let is_own = name.name == entry.name
        && name.schema.as_ref().is_none_or(|schema| *schema == entry.schema);
    if is_own {
        return Referenced::find(entry, columns).map(Some);
    }
    let view = session.transaction()?.view();
    let found = session.find_table(&view, name)?.ok_or_else(|| undefined_table(name))?;
    // Nobody can keep the table of somebody else from being dropped.
    if session.check_owner(&found.owner, "relation", &found.name).is_err() {
        return Ok(None);
    }
    if is_temporary(&entry.schema) != is_temporary(&found.schema) {
        let kind = if is_temporary(&entry.schema) { "temporary" } else { "permanent" };
        let message = format!("constraints on {kind} tables may reference only {kind} tables");
        return Err(Error::statement("42P16", message));
    }
    let transaction = session.transaction()?;
    transaction.lock(found.id, LockMode::Insert).await?;
    if transaction.is_gone(found.id) {
        return Err(dropped_meanwhile());
    }
    Referenced::find(&found, columns).map(Some)
}

/// Gives later ones of equal name a number.
fn distinguish_names(constraints: &mut [ConstraintEntry]) {
    for at in 1..constraints.len() {
        let (before, rest) = constraints.split_at_mut(at);
        let constraint = &mut rest[0];
        let taken = |name: &str| before.iter().any(|known| known.name == name);
        if !taken(&constraint.name) {
            continue;
        }
        let free = (1..).map(|number| format!("{}{number}", constraint.name));
        if let Some(name) = free.into_iter().find(|name| !taken(name)) {
            constraint.name = name;
        }
    }
}

/// An entry without columns; [`finish_entry`] completes it.
pub(crate) fn empty_entry() -> TableEntry {
    TableEntry {
        id: storage::ids::TableId(0),
        schema: String::new(),
        name: String::new(),
        owner: String::new(),
        columns: Vec::new(),
        distribution: DistributionStyle::Even,
        is_automatic: true,
        sort_key: Vec::new(),
        constraints: Vec::new(),
        placement_fingerprint: 0,
        slices: Vec::new(),
        deletions: Deletions::default(),
        numbers_taken: 0,
    }
}

/// Fills in what does not come from the columns: names, ids, distribution, sort key.
pub(super) fn finish_entry(
    session: &Session,
    entry: &mut TableEntry,
    schema: String,
    name: &str,
    attributes: &TableAttributes,
) -> Result<()> {
    let engine = session.engine();
    entry.id = engine.transactions.new_table_id();
    entry.schema = schema;
    name.clone_into(&mut entry.name);
    session.user().clone_into(&mut entry.owner);
    for (number, column) in (0u32..).zip(&mut entry.columns) {
        column.id = ColumnId(number);
    }
    check_names(entry)?;
    apply_attributes(entry, attributes)?;
    if entry.is_automatic {
        entry.distribution = unplaced(engine);
    }
    entry.placement_fingerprint = compute::placement::fingerprint();
    entry.slices = vec![SegmentList::new(); engine.cluster.layout().slices()];
    entry.deletions = Deletions::default();
    Ok(())
}

/// Where the rows of a DISTSTYLE AUTO table live while it is small.
pub(super) fn unplaced(engine: &Engine) -> DistributionStyle {
    match engine.cluster.layout().nodes() {
        1 => DistributionStyle::Even,
        _ => DistributionStyle::All,
    }
}

fn place(entry: &mut TableEntry, style: DistributionStyle) {
    (entry.distribution, entry.is_automatic) = (style, false);
}

fn apply_attributes(entry: &mut TableEntry, attributes: &TableAttributes) -> Result<()> {
    match (attributes.dist_style, &attributes.dist_key) {
        (None, None) => {}
        (None | Some(DistStyle::Key), Some(key)) => {
            place(entry, DistributionStyle::Key(entry.position(key)?));
        }
        (Some(DistStyle::Auto), None) => entry.is_automatic = true,
        (Some(DistStyle::Even), None) => place(entry, DistributionStyle::Even),
        (Some(DistStyle::All), None) => place(entry, DistributionStyle::All),
        (Some(DistStyle::Key), None) => {
            let message = "DISTSTYLE KEY requires a DISTKEY column";
            return Err(Error::statement("42P16", message));
        }
        (Some(_), Some(_)) => {
            let message = "cannot specify DISTKEY for column with DISTSTYLE other than KEY";
            return Err(Error::statement("42P16", message));
        }
    }
    match &attributes.sort_key {
        SortKey::Auto => {}
        SortKey::Compound(names) => {
            entry.sort_key =
                names.iter().map(|name| entry.position(name)).collect::<Result<_>>()?;
        }
        SortKey::Interleaved(_) => {
            return Err(Error::statement(
                code::FEATURE_NOT_SUPPORTED,
                "INTERLEAVED SORTKEY is not supported",
            )
            .with_hint("Use a compound sort key."));
        }
    }
    Ok(())
}

fn check_names(entry: &TableEntry) -> Result<()> {
    for (at, column) in entry.columns.iter().enumerate() {
        if entry.columns[..at].iter().any(|other| other.name == column.name) {
            let message = format!("column \"{}\" duplicated", column.name);
            return Err(Error::statement("42701", message));
        }
    }
    Ok(())
}

/// The columns, distribution and sort key of another table.
fn like_entry(session: &mut Session, like: &LikeTable) -> Result<TableEntry> {
    let view = session.transaction()?.view();
    let parent =
        session.find_table(&view, &like.parent)?.ok_or_else(|| undefined_table(&like.parent))?;
    let mut entry = TableEntry::clone(&parent);
    entry.constraints.clear();
    if !like.including_defaults {
        for column in &mut entry.columns {
            (column.default, column.identity) = (None, None);
        }
    }
    // It counts from its own seed.
    entry.numbers_taken = 0;
    Ok(entry)
}

pub(super) fn column(definition: &ColumnDefinition) -> TableColumn {
    TableColumn {
        id: ColumnId(0),
        name: definition.name.clone(),
        sql_type: definition.sql_type,
        nullable: !definition.not_null,
        default: definition.default.clone(),
        identity: definition.identity,
        encode: definition.encoding.map_or(EncodeName::Auto, encode_name),
    }
}

pub(super) fn encode_name(encoding: Encoding) -> EncodeName {
    match encoding {
        Encoding::Raw => EncodeName::Raw,
        Encoding::Az64 => EncodeName::Az64,
        Encoding::Bytedict => EncodeName::Bytedict,
        Encoding::Delta => EncodeName::Delta,
        Encoding::Delta32k => EncodeName::Delta32k,
        Encoding::Lzo => EncodeName::Lzo,
        Encoding::Mostly8 => EncodeName::Mostly8,
        Encoding::Mostly16 => EncodeName::Mostly16,
        Encoding::Mostly32 => EncodeName::Mostly32,
        Encoding::RunLength => EncodeName::Runlength,
        Encoding::Text255 => EncodeName::Text255,
        Encoding::Text32k => EncodeName::Text32k,
        Encoding::Zstd => EncodeName::Zstd,
    }
}
