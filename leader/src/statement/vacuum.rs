//! VACUUM: what each of its forms is to reach.

use std::sync::Arc;

use compute::RewriteGoal;
use sql::statement::{Vacuum, VacuumMode};
use storage::ids::TableId;

use super::command;
use crate::catalog::TableEntry;
use crate::error::{Error, Result, code};
use crate::pgwire::backend::Execution;
use crate::pgwire::report::Severity;
use crate::session::{Session, undefined_table};
use crate::vacuum::vacuum;

/// The part of the rows that are sorted, or live, that is good enough unless TO says otherwise.
const PERCENT_DEFAULT: u8 = 95;

/// Rewrites a table, or all, while others go on.
pub(super) async fn run(session: &mut Session, statement: &Vacuum) -> Result<Execution> {
    session.check_alone("VACUUM")?;
    // Statements of the same batch of messages are of one transaction too.
    if !session.transaction()?.is_fresh() {
        let message = "VACUUM cannot run inside a transaction block";
        return Err(Error::statement(code::ACTIVE_SQL_TRANSACTION, message));
    }
    check(statement)?;
    let goal = goal(session, statement);
    let tables = tables(session, statement)?;
    // The snapshot of this statement would keep the files that it replaces.
    session.transaction()?.begin_again();
    let engine = Arc::clone(session.engine());
    let _turn = engine.vacuum_turn().await;
    for (table, name) in tables {
        let done = vacuum(&engine, table, goal, false).await?;
        if done.was_locked {
            let text = format!("table \"{name}\" is locked by another transaction, VACUUM stopped");
            session.notice(Severity::Warning, text);
        } else if done.left > 0 {
            let text = format!(
                "{} segments of table \"{name}\" were changed meanwhile and stay as they are",
                done.left
            );
            session.notice(Severity::Info, text);
        }
    }
    Ok(command("VACUUM"))
}

/// What the grammar allows and VACUUM does not.
fn check(statement: &Vacuum) -> Result<()> {
    let refused = |message: &str| Err(Error::statement(code::SYNTAX_ERROR, message));
    let needs_table = matches!(statement.mode, VacuumMode::Reindex | VacuumMode::Recluster);
    match (&statement.table, statement.percent) {
        (None, Some(_)) => refused("VACUUM TO n PERCENT needs a table"),
        (None, None) if needs_table => refused("this kind of VACUUM needs a table"),
        (Some(_), Some(_)) if needs_table => refused("this kind of VACUUM has no TO n PERCENT"),
        _ => Ok(()),
    }
}

fn goal(session: &mut Session, statement: &Vacuum) -> RewriteGoal {
    let percent = Some(statement.percent.unwrap_or(PERCENT_DEFAULT));
    if statement.boost {
        let text = "BOOST has no effect: VACUUM never keeps others from deleting and updating";
        session.notice(Severity::Notice, text);
    }
    let (sorted_percent, live_percent, joins_small) = match statement.mode {
        VacuumMode::Full => (percent, percent, true),
        VacuumMode::SortOnly => (percent, None, false),
        VacuumMode::DeleteOnly => (None, percent, false),
        VacuumMode::Reindex => {
            let text = "there are no interleaved sort keys: REINDEX does what FULL does";
            session.notice(Severity::Notice, text);
            (percent, percent, true)
        }
        VacuumMode::Recluster => {
            let text = "RECLUSTER merges what it sorts, as SORT ONLY does";
            session.notice(Severity::Notice, text);
            (Some(100), None, false)
        }
    };
    RewriteGoal { sorted_percent, live_percent, joins_small }
}

/// The table that is named, or all that the user may rewrite.
fn tables(session: &mut Session, statement: &Vacuum) -> Result<Vec<(TableId, String)>> {
    let peek = session.transaction()?.peek();
    if let Some(name) = &statement.table {
        let entry = session.find_table(&peek, name)?.ok_or_else(|| undefined_table(name))?;
        session.check_owner(&entry.owner, "relation", &entry.name)?;
        return Ok(vec![(entry.id, entry.name.clone())]);
    }
    let is_own = |table: &&Arc<TableEntry>| {
        session.check_owner(&table.owner, "relation", &table.name).is_ok()
    };
    let own = peek.tables().filter(is_own);
    let mut tables: Vec<_> = own.map(|table| (table.id, table.name.clone())).collect();
    tables.sort_unstable();
    Ok(tables)
}
