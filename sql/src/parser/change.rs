//! DELETE, UPDATE and MERGE: what changes rows that are there.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::data::insert_value;
use super::tokens::Tokens;
use crate::error::{Error, Result};
use crate::statement::{
    Assignment, Delete, Merge, MergeAction, MergeMatched, Statement, TableName, Update,
};

/// WITH before DELETE or UPDATE, and the statement after it.
pub(super) fn after_with(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let with = Some(tokens.with_clause()?);
    if tokens.take_word("delete") {
        return Ok(Statement::Delete(Delete { with, ..delete_of(tokens)? }));
    }
    tokens.expect_word("update")?;
    Ok(Statement::Update(Update { with, ..update_of(tokens)? }))
}

/// After DELETE.
pub(super) fn delete(tokens: &mut Tokens<'_>) -> Result<Statement> {
    delete_of(tokens).map(Statement::Delete)
}

fn delete_of(tokens: &mut Tokens<'_>) -> Result<Delete> {
    tokens.take_word("from");
    let (table, alias) = target(tokens, &["using", "where", "returning"])?;
    let using = if tokens.take_word("using") {
        tokens.comma_separated(Tokens::tables_and_joins)?
    } else {
        Vec::new()
    };
    let selection = if tokens.take_word("where") { Some(tokens.expression()?) } else { None };
    refuse_returning(tokens)?;
    Ok(Delete { with: None, table, alias, using, selection })
}

/// After UPDATE.
pub(super) fn update(tokens: &mut Tokens<'_>) -> Result<Statement> {
    update_of(tokens).map(Statement::Update)
}

fn update_of(tokens: &mut Tokens<'_>) -> Result<Update> {
    let (table, alias) = target(tokens, &["set"])?;
    tokens.expect_word("set")?;
    let assignments = tokens.comma_separated(assignment)?;
    let from = if tokens.take_word("from") {
        tokens.comma_separated(Tokens::tables_and_joins)?
    } else {
        Vec::new()
    };
    let selection = if tokens.take_word("where") { Some(tokens.expression()?) } else { None };
    refuse_returning(tokens)?;
    Ok(Update { with: None, table, alias, assignments, from, selection })
}

/// After MERGE.
pub(super) fn merge(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_word("into")?;
    let (table, alias) = target(tokens, &["using"])?;
    tokens.expect_word("using")?;
    let source = tokens.table_factor()?;
    if !matches!(source, ast::TableFactor::Table { .. } | ast::TableFactor::Derived { .. }) {
        return Err(Error::not_supported("a join as the source of MERGE"));
    }
    tokens.expect_word("on")?;
    let condition = tokens.expression()?;
    let action = if tokens.take_words(&["remove", "duplicates"]) {
        MergeAction::RemoveDuplicates
    } else {
        clauses(tokens)?
    };
    Ok(Statement::Merge(Box::new(Merge { table, alias, source, condition, action })))
}

/// WHEN MATCHED and WHEN NOT MATCHED, once each, in either order.
fn clauses(tokens: &mut Tokens<'_>) -> Result<MergeAction> {
    let (mut matched, mut insert) = (None, None);
    while tokens.take_word("when") {
        let is_insert = tokens.take_word("not");
        tokens.expect_word("matched")?;
        if tokens.next_is_word("and") {
            return Err(Error::not_supported("a condition of a WHEN clause"));
        }
        tokens.expect_word("then")?;
        let is_repeated = if is_insert { insert.is_some() } else { matched.is_some() };
        if is_repeated {
            return Err(Error::not_supported("more than one WHEN clause of a kind"));
        }
        if is_insert {
            insert = Some(merge_insert(tokens)?);
        } else if tokens.take_word("delete") {
            matched = Some(MergeMatched::Delete);
        } else {
            tokens.expect_word("update")?;
            tokens.expect_word("set")?;
            matched = Some(MergeMatched::Update(tokens.comma_separated(assignment)?));
        }
    }
    match (matched, insert) {
        (Some(matched), Some((columns, values))) => {
            Ok(MergeAction::Clauses { matched, columns, values })
        }
        _ if !tokens.at_end() => Err(tokens.unexpected()),
        _ => Err(Error::syntax("MERGE needs WHEN MATCHED and WHEN NOT MATCHED")),
    }
}

type Inserted = (Vec<String>, Vec<crate::statement::InsertValue>);

fn merge_insert(tokens: &mut Tokens<'_>) -> Result<Inserted> {
    tokens.expect_word("insert")?;
    let columns = if tokens.peek_is(&Token::LParen) { tokens.name_list()? } else { Vec::new() };
    tokens.expect_word("values")?;
    tokens.expect(&Token::LParen)?;
    let values = tokens.comma_separated(insert_value)?;
    tokens.expect(&Token::RParen)?;
    Ok((columns, values))
}

/// A table and its alias; one of `ends` comes after it.
fn target(tokens: &mut Tokens<'_>, ends: &[&str]) -> Result<(TableName, Option<String>)> {
    let table = tokens.table_name()?;
    let at_end = tokens.at_end() || ends.iter().any(|word| tokens.next_is_word(word));
    let has_alias = tokens.take_word("as") || !at_end;
    let alias = if has_alias { Some(tokens.name()?) } else { None };
    Ok((table, alias))
}

fn assignment(tokens: &mut Tokens<'_>) -> Result<Assignment> {
    let column = tokens.name()?;
    tokens.expect(&Token::Eq)?;
    Ok(Assignment { column, value: insert_value(tokens)? })
}

fn refuse_returning(tokens: &Tokens<'_>) -> Result<()> {
    if tokens.next_is_word("returning") {
        return Err(Error::not_supported("RETURNING"));
    }
    Ok(())
}
