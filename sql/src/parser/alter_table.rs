//! ALTER TABLE: one change of a table for each statement, several only of what Redshift lets stand
//! together.

use super::create_table::{added_column, added_constraint, check_column_name};
use super::tokens::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{AlterTable, Statement, TableChange};
use crate::types::SqlType;

/// After ALTER TABLE.
pub(super) fn alter_table(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let table = tokens.table_name()?;
    let change = change(tokens)?;
    Ok(Statement::AlterTable(AlterTable { table, change }))
}

fn change(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    let word = tokens.word()?;
    match word.as_str() {
        "add" => add(tokens),
        "drop" => drop(tokens),
        "rename" => rename(tokens),
        "owner" => {
            tokens.expect_word("to")?;
            Ok(TableChange::Owner(tokens.name()?))
        }
        "alter" => alter(tokens),
        "append" => Err(Error::not_supported("ALTER TABLE APPEND")),
        "row" => Err(Error::not_supported("row level security")),
        _ => Err(tokens.unexpected_previous()),
    }
}

fn add(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    if tokens.take_word("constraint") {
        let name = tokens.name()?;
        return Ok(TableChange::AddConstraint(Some(name), added_constraint(tokens)?));
    }
    let is_constraint = ["unique", "primary", "foreign", "check", "exclude"]
        .iter()
        .any(|word| tokens.next_is_word(word) && !tokens.word_is(1, "column"));
    if is_constraint {
        return Ok(TableChange::AddConstraint(None, added_constraint(tokens)?));
    }
    tokens.take_word("column");
    Ok(TableChange::AddColumn(added_column(tokens)?))
}

fn drop(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    let is_constraint = tokens.take_word("constraint");
    if !is_constraint {
        tokens.take_word("column");
    }
    let name = tokens.name()?;
    // Nothing depends on a column or a constraint but what goes with it.
    if !tokens.take_word("cascade") {
        tokens.take_word("restrict");
    }
    Ok(if is_constraint {
        TableChange::DropConstraint(name)
    } else {
        TableChange::DropColumn(name)
    })
}

fn rename(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    if tokens.take_word("to") {
        let name = tokens.name()?;
        if name.starts_with('#') {
            let message = "a table cannot be made temporary by its name";
            return Err(Error::new(ErrorKind::InvalidTableDefinition, message));
        }
        return Ok(TableChange::Rename(name));
    }
    tokens.take_word("column");
    let from = tokens.name()?;
    tokens.expect_word("to")?;
    let to = tokens.name()?;
    check_column_name(&to)?;
    Ok(TableChange::RenameColumn { from, to })
}

fn alter(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    for what in ["distkey", "diststyle", "sortkey", "compound", "encode"] {
        if tokens.next_is_word(what) {
            let what = what.to_ascii_uppercase();
            return Err(Error::not_supported(format!("ALTER TABLE ... ALTER {what}"))
                .with_hint("Make a new table of the rows with CREATE TABLE AS and rename it."));
        }
    }
    tokens.take_word("column");
    let column = tokens.name()?;
    if tokens.take_word("encode") {
        return Err(Error::not_supported("ALTER TABLE ... ALTER COLUMN ... ENCODE")
            .with_hint("Make a new table of the rows with CREATE TABLE AS and rename it."));
    }
    tokens.expect_word("type")?;
    match tokens.sql_type()? {
        SqlType::VarChar(length) => Ok(TableChange::Widen { column, length }),
        _ => {
            let message = format!("cannot alter type of column \"{column}\"");
            let error = Error::new(ErrorKind::FeatureNotSupported, message);
            Err(error.with_hint("Only the length of a VARCHAR can be altered."))
        }
    }
}
