//! ALTER TABLE: one change of a table for each statement, several only of what Redshift lets stand
//! together.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::create_table::{added_column, added_constraint, check_column_name, sort_columns};
use super::data::cascade;
use super::table_attributes::{dist_style, encoding, sort_key};
use super::tokens::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{
    AlterTable, Arrangement, DistStyle, NamedConstraint, SortKey, Statement, TableChange, Unmatched,
};
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
        "append" => append(tokens),
        "row" => Err(Error::not_supported("row level security")),
        _ => Err(tokens.unexpected_previous()),
    }
}

fn add(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    if tokens.take_word("constraint") {
        let name = tokens.name()?;
        let constraint = added_constraint(tokens)?;
        return Ok(TableChange::AddConstraint(NamedConstraint { name: Some(name), constraint }));
    }
    let is_constraint = ["unique", "primary", "foreign", "check", "exclude"]
        .iter()
        .any(|word| tokens.next_is_word(word) && !tokens.word_is(1, "column"));
    if is_constraint {
        let constraint = added_constraint(tokens)?;
        return Ok(TableChange::AddConstraint(NamedConstraint { name: None, constraint }));
    }
    tokens.take_word("column");
    Ok(TableChange::AddColumn(added_column(tokens)?))
}

/// After APPEND.
fn append(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    tokens.expect_word("from")?;
    let source = tokens.table_name()?;
    let unmatched = if tokens.take_word("ignoreextra") {
        Unmatched::IgnoreExtra
    } else if tokens.take_word("filltarget") {
        Unmatched::FillTarget
    } else {
        Unmatched::Refuse
    };
    Ok(TableChange::Append { source, unmatched })
}

fn drop(tokens: &mut Tokens<'_>) -> Result<TableChange> {
    let is_constraint = tokens.take_word("constraint");
    if !is_constraint {
        tokens.take_word("column");
    }
    let name = tokens.name()?;
    let cascade = cascade(tokens);
    Ok(if is_constraint {
        TableChange::DropConstraint { name, cascade }
    } else {
        TableChange::DropColumn { name, cascade }
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
    let mut arrangement = Arrangement::default();
    loop {
        if let Some(widened) = alter_item(tokens, &mut arrangement)? {
            return Ok(widened);
        }
        if !tokens.take(&Token::Comma) {
            return Ok(TableChange::Arrange(arrangement));
        }
        tokens.expect_word("alter")?;
    }
}

/// One item of ALTER; an answer is all of the statement.
fn alter_item(
    tokens: &mut Tokens<'_>,
    arrangement: &mut Arrangement,
) -> Result<Option<TableChange>> {
    let twice = |what: &str| {
        let message = format!("{what} is specified more than once");
        Err(Error::new(ErrorKind::InvalidTableDefinition, message))
    };
    if tokens.take_word("distkey") {
        let key = (DistStyle::Key, Some(one_name(tokens)?));
        if arrangement.distribution.replace(key).is_some() {
            return twice("the distribution");
        }
        return Ok(None);
    }
    if tokens.take_word("diststyle") {
        let style = dist_style(tokens)?;
        let key = match style {
            DistStyle::Key => {
                tokens.expect_word("distkey")?;
                Some(one_name(tokens)?)
            }
            DistStyle::Auto | DistStyle::Even | DistStyle::All => None,
        };
        if arrangement.distribution.replace((style, key)).is_some() {
            return twice("the distribution");
        }
        return Ok(None);
    }
    let sort_key = if tokens.take_words(&["sortkey", "none"]) {
        Some(SortKey::Auto)
    } else {
        sort_key(tokens)?
    };
    if let Some(sort_key) = sort_key {
        sort_columns(&sort_key)?;
        if arrangement.sort_key.replace(sort_key).is_some() {
            return twice("the sort key");
        }
        return Ok(None);
    }
    if tokens.take_words(&["encode", "auto"]) {
        arrangement.encode_auto = true;
        return Ok(None);
    }
    tokens.take_word("column");
    let column = tokens.name()?;
    if tokens.take_word("encode") {
        let encoding = encoding(tokens)?;
        arrangement.encodings.push((column, encoding));
        return Ok(None);
    }
    tokens.expect_word("type")?;
    match tokens.sql_type()? {
        SqlType::VarChar(length) => Ok(Some(TableChange::Widen { column, length })),
        _ => {
            let message = format!("cannot alter type of column \"{column}\"");
            let error = Error::new(ErrorKind::FeatureNotSupported, message);
            Err(error.with_hint("Only the length of a VARCHAR can be altered."))
        }
    }
}

/// A name, in parentheses or not.
fn one_name(tokens: &mut Tokens<'_>) -> Result<String> {
    let is_enclosed = tokens.take(&Token::LParen);
    let name = tokens.name()?;
    if is_enclosed {
        tokens.expect(&Token::RParen)?;
    }
    Ok(name)
}
