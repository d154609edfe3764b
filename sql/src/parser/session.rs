//! Statements about the session: parameters, transactions, prepared statements, cursors, CANCEL.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::alter_table::alter_table;
use super::tokens::Tokens;
use super::{roles, users};
use crate::error::{Error, Result};
use crate::statement::{
    AlterDatabase, AlterSystem, Cancel, DeclareCursor, Execute, Fetch, IsolationLevel, Prepare,
    Reset, Set, SetValue, Show, Statement, TransactionModes,
};

/// After SET.
pub(super) fn set(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_words(&["session", "characteristics", "as", "transaction"]) {
        return some_modes(tokens).map(Statement::SetSessionTransactions);
    }
    if tokens.take_word("transaction") {
        return some_modes(tokens).map(Statement::SetTransaction);
    }
    let local = tokens.take_word("local");
    if !local {
        tokens.take_word("session");
    }
    if tokens.next_is_word("authorization") {
        return Err(Error::not_supported("SET SESSION AUTHORIZATION"));
    }
    if tokens.take_words(&["time", "zone"]) {
        let value = set_value(tokens)?;
        return Ok(Statement::Set(Set { local, name: "timezone".to_owned(), value }));
    }
    let name = parameter_name(tokens)?;
    if name == "seed" {
        return Err(Error::not_supported("SET SEED"));
    }
    equals_or_to(tokens)?;
    let value = set_value(tokens)?;
    Ok(Statement::Set(Set { local, name, value }))
}

pub(super) fn equals_or_to(tokens: &mut Tokens<'_>) -> Result<()> {
    if tokens.take(&Token::Eq) { Ok(()) } else { tokens.expect_word("to") }
}

/// A parameter with at most one dot.
pub(super) fn parameter_name(tokens: &mut Tokens<'_>) -> Result<String> {
    let mut name = tokens.name()?;
    if tokens.take(&Token::Period) {
        name = format!("{name}.{}", tokens.name()?);
    }
    Ok(name)
}

pub(super) fn set_value(tokens: &mut Tokens<'_>) -> Result<SetValue> {
    if tokens.take_word("default") {
        return Ok(SetValue::Default);
    }
    Ok(SetValue::Values(tokens.comma_separated(value)?))
}

fn value(tokens: &mut Tokens<'_>) -> Result<String> {
    if tokens.peek_string() {
        return tokens.string();
    }
    match tokens.next() {
        Token::Word(word) => Ok(word.value),
        Token::Number(number, _) => Ok(number),
        Token::Minus => match tokens.next() {
            Token::Number(number, _) => Ok(format!("-{number}")),
            _ => Err(tokens.unexpected_previous()),
        },
        _ => Err(tokens.unexpected_previous()),
    }
}

/// After SHOW.
pub(super) fn show(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_word("all") {
        return Ok(Statement::Show(Show::All));
    }
    if tokens.take_word("table") {
        return Ok(Statement::Show(Show::Table(tokens.table_name()?)));
    }
    if tokens.take_words(&["time", "zone"]) {
        return Ok(Statement::Show(Show::Parameter("timezone".to_owned())));
    }
    if tokens.take_words(&["transaction", "isolation", "level"]) {
        return Ok(Statement::Show(Show::Parameter("transaction_isolation".to_owned())));
    }
    const LISTS: [&str; 9] = [
        "databases",
        "schemas",
        "tables",
        "columns",
        "grants",
        "constraints",
        "functions",
        "procedures",
        "view",
    ];
    if let Some(list) = LISTS.iter().find(|list| tokens.next_is_word(list)) {
        return Err(Error::not_supported(format!("SHOW {}", list.to_ascii_uppercase())));
    }
    Ok(Statement::Show(Show::Parameter(parameter_name(tokens)?)))
}

/// After RESET.
pub(super) fn reset(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = if tokens.take_word("all") { None } else { Some(parameter_name(tokens)?) };
    Ok(Statement::Reset(Reset { name }))
}

/// After ALTER.
pub(super) fn alter(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_words(&["system", "set"]) {
        let name = parameter_name(tokens)?;
        equals_or_to(tokens)?;
        let value = set_value(tokens)?;
        return Ok(Statement::AlterSystem(AlterSystem { name, value }));
    }
    if tokens.take_word("table") {
        return alter_table(tokens);
    }
    if tokens.take_word("user") {
        return users::alter_user(tokens);
    }
    if tokens.take_word("group") {
        return users::alter_group(tokens);
    }
    if tokens.take_word("role") {
        return roles::alter(tokens);
    }
    if tokens.take_word("database") {
        return alter_database(tokens);
    }
    let what = tokens.word()?;
    Err(Error::not_supported(format!("ALTER {}", what.to_ascii_uppercase())))
}

/// After ALTER DATABASE.
fn alter_database(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    if tokens.take_words(&["isolation", "level"]) {
        let isolation = if tokens.take_word("serializable") {
            IsolationLevel::Serializable
        } else {
            tokens.expect_word("snapshot")?;
            IsolationLevel::Snapshot
        };
        return Ok(Statement::AlterDatabase(AlterDatabase { name, isolation }));
    }
    let what = tokens.word()?;
    Err(Error::not_supported(format!("ALTER DATABASE ... {}", what.to_ascii_uppercase())))
}

/// After BEGIN or START TRANSACTION.
pub(super) fn begin(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if !tokens.take_word("work") {
        tokens.take_word("transaction");
    }
    transaction_modes(tokens).map(Statement::Begin)
}

/// Any number of modes; the last of a kind counts.
fn transaction_modes(tokens: &mut Tokens<'_>) -> Result<TransactionModes> {
    let mut modes = TransactionModes::default();
    loop {
        if tokens.take_words(&["isolation", "level"]) {
            modes.isolation = Some(isolation_level(tokens)?);
        } else if tokens.take_words(&["read", "only"]) {
            modes.read_only = Some(true);
        } else if tokens.take_words(&["read", "write"]) {
            modes.read_only = Some(false);
        } else if !tokens.take(&Token::Comma) {
            return Ok(modes);
        }
    }
}

/// One mode at least.
fn some_modes(tokens: &mut Tokens<'_>) -> Result<TransactionModes> {
    match transaction_modes(tokens)? {
        TransactionModes { isolation: None, read_only: None } => Err(tokens.unexpected()),
        modes => Ok(modes),
    }
}

fn isolation_level(tokens: &mut Tokens<'_>) -> Result<IsolationLevel> {
    const LEVELS: [(&[&str], IsolationLevel); 5] = [
        (&["serializable"], IsolationLevel::Serializable),
        (&["snapshot"], IsolationLevel::Snapshot),
        (&["repeatable", "read"], IsolationLevel::RepeatableRead),
        (&["read", "committed"], IsolationLevel::ReadCommitted),
        (&["read", "uncommitted"], IsolationLevel::ReadUncommitted),
    ];
    match LEVELS.iter().find(|(words, _)| tokens.take_words(words)) {
        Some((_, level)) => Ok(*level),
        None => Err(tokens.unexpected()),
    }
}

/// After COMMIT or END.
pub(super) fn commit(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if !tokens.take_word("work") {
        tokens.take_word("transaction");
    }
    Ok(Statement::Commit)
}

/// After ROLLBACK or ABORT.
pub(super) fn rollback(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if !tokens.take_word("work") {
        tokens.take_word("transaction");
    }
    if tokens.take_word("to") {
        return savepoint_name(tokens).map(Statement::RollbackTo);
    }
    Ok(Statement::Rollback)
}

/// After RELEASE.
pub(super) fn release(tokens: &mut Tokens<'_>) -> Result<Statement> {
    savepoint_name(tokens).map(Statement::Release)
}

/// [SAVEPOINT] name. The word alone is the name.
fn savepoint_name(tokens: &mut Tokens<'_>) -> Result<String> {
    let first = tokens.name()?;
    if first == "savepoint" && !tokens.at_end() { tokens.name() } else { Ok(first) }
}

/// After DISCARD.
pub(super) fn discard(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_word("all") {
        return Ok(Statement::DiscardAll);
    }
    let what = tokens.word()?;
    Err(Error::not_supported(format!("DISCARD {}", what.to_ascii_uppercase())))
}

/// After PREPARE.
pub(super) fn prepare(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    let types = if tokens.take(&Token::LParen) {
        let types = tokens.comma_separated(Tokens::sql_type)?;
        tokens.expect(&Token::RParen)?;
        types
    } else {
        Vec::new()
    };
    tokens.expect_word("as")?;
    let prepared = super::statement(tokens)?;
    match prepared {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Delete(_)
        | Statement::Update(_) => {
            Ok(Statement::Prepare(Prepare { name, types, statement: Box::new(prepared) }))
        }
        _ => Err(Error::syntax("PREPARE takes SELECT, INSERT, UPDATE or DELETE")),
    }
}

/// After EXECUTE.
pub(super) fn execute(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    let arguments = if tokens.take(&Token::LParen) {
        let arguments = tokens.comma_separated(Tokens::expression)?;
        tokens.expect(&Token::RParen)?;
        arguments
    } else {
        Vec::new()
    };
    Ok(Statement::Execute(Execute { name, arguments }))
}

/// After DEALLOCATE.
pub(super) fn deallocate(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.take_word("prepare");
    Ok(Statement::Deallocate(all_or_name(tokens)?))
}

/// After CLOSE.
pub(super) fn close(tokens: &mut Tokens<'_>) -> Result<Statement> {
    Ok(Statement::Close(all_or_name(tokens)?))
}

fn all_or_name(tokens: &mut Tokens<'_>) -> Result<Option<String>> {
    if tokens.take_word("all") { Ok(None) } else { tokens.name().map(Some) }
}

/// After DECLARE.
pub(super) fn declare(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let name = tokens.name()?;
    loop {
        // A result never changes once it is begun, which is what INSENSITIVE asks for.
        if tokens.take_word("insensitive") || tokens.take_words(&["no", "scroll"]) {
            continue;
        }
        if tokens.next_is_word("binary") {
            return Err(Error::not_supported("a BINARY cursor"));
        }
        if tokens.next_is_word("scroll") {
            return Err(Error::not_supported("a SCROLL cursor"));
        }
        break;
    }
    tokens.expect_word("cursor")?;
    let with_hold = tokens.take_words(&["with", "hold"]);
    if !with_hold {
        tokens.take_words(&["without", "hold"]);
    }
    tokens.expect_word("for")?;
    let query = tokens.query()?;
    Ok(Statement::DeclareCursor(DeclareCursor { name, with_hold, query }))
}

/// After FETCH: forward only, as in Redshift.
pub(super) fn fetch(tokens: &mut Tokens<'_>) -> Result<Statement> {
    const BACKWARD: [&str; 6] = ["prior", "first", "last", "absolute", "relative", "backward"];
    if let Some(direction) = BACKWARD.iter().find(|word| tokens.next_is_word(word)) {
        return Err(Error::not_supported(format!("FETCH {}", direction.to_ascii_uppercase())));
    }
    let rows = if tokens.take_word("next") {
        Some(1)
    } else {
        tokens.take_word("forward");
        if tokens.take_word("all") {
            None
        } else if tokens.peek_unsigned() {
            Some(tokens.unsigned()?)
        } else {
            Some(1)
        }
    };
    if !tokens.take_word("in") {
        tokens.take_word("from");
    }
    Ok(Statement::Fetch(Fetch { name: tokens.name()?, rows }))
}

/// After CANCEL.
pub(super) fn cancel(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let pid = i32::try_from(tokens.unsigned()?).map_err(|_| tokens.unexpected_previous())?;
    let message = if tokens.peek_string() { Some(tokens.string()?) } else { None };
    Ok(Statement::Cancel(Cancel { pid, message }))
}
