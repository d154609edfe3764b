//! INSERT, TRUNCATE, DROP, CREATE SCHEMA, ANALYZE and VACUUM.

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;

use super::tokens::Tokens;
use super::{roles, users};
use crate::error::{Error, ErrorKind, Result};
use crate::statement::{
    Analyze, Comment, CommentedObject, CreateSchema, DropSchema, DropTable, Insert, InsertSource,
    InsertValue, Statement, Vacuum, VacuumMode,
};

/// After INSERT.
pub(super) fn insert(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_word("into")?;
    let table = tokens.table_name()?;
    let has_columns = tokens.peek_is(&Token::LParen) && !tokens.starts_query();
    let columns = if has_columns { tokens.name_list()? } else { Vec::new() };
    let source = insert_source(tokens)?;
    if tokens.next_is_word("returning") {
        return Err(Error::not_supported("RETURNING"));
    }
    if tokens.take_words(&["on", "conflict"]) {
        return Err(Error::not_supported("ON CONFLICT"));
    }
    Ok(Statement::Insert(Insert { table, columns, source }))
}

fn insert_source(tokens: &mut Tokens<'_>) -> Result<InsertSource> {
    if tokens.take_words(&["default", "values"]) {
        return Ok(InsertSource::Defaults);
    }
    if !tokens.take_word("values") {
        return Ok(InsertSource::Query(tokens.query()?));
    }
    let rows = tokens.comma_separated(|tokens| {
        tokens.expect(&Token::LParen)?;
        let row = tokens.comma_separated(insert_value)?;
        tokens.expect(&Token::RParen)?;
        Ok(row)
    })?;
    if rows.len() > 1 && rows.iter().flatten().any(is_subquery) {
        return Err(Error::new(
            ErrorKind::FeatureNotSupported,
            "can't use subqueries in multi-row VALUES",
        ));
    }
    if let Some(first) = rows.first()
        && rows.iter().any(|row| row.len() != first.len())
    {
        return Err(Error::syntax("VALUES lists must all be the same length"));
    }
    Ok(InsertSource::Values(rows))
}

/// DEFAULT or an expression.
pub(super) fn insert_value(tokens: &mut Tokens<'_>) -> Result<InsertValue> {
    if tokens.take_word("default") {
        return Ok(InsertValue::Default);
    }
    Ok(InsertValue::Expression(Box::new(tokens.expression()?)))
}

fn is_subquery(value: &InsertValue) -> bool {
    matches!(value, InsertValue::Expression(expression) if matches!(expression.as_ref(), ast::Expr::Subquery(_)))
}

/// After TRUNCATE.
pub(super) fn truncate(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.take_word("table");
    Ok(Statement::Truncate(tokens.table_name()?))
}

/// After LOCK. Redshift has one mode.
pub(super) fn lock(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.take_word("table");
    let tables = tokens.comma_separated(Tokens::table_name)?;
    if tokens.take_word("in") && !tokens.take_words(&["access", "exclusive", "mode"]) {
        return Err(Error::not_supported("LOCK in a mode other than ACCESS EXCLUSIVE"));
    }
    if tokens.take_word("nowait") {
        return Err(Error::not_supported("LOCK with NOWAIT"));
    }
    Ok(Statement::Lock(tables))
}

/// After COMMENT.
pub(super) fn comment(tokens: &mut Tokens<'_>) -> Result<Statement> {
    tokens.expect_word("on")?;
    let what = tokens.word()?;
    let object = match what.as_str() {
        "table" => CommentedObject::Table(tokens.table_name()?),
        "column" => {
            let (table, column) = tokens.column_name()?;
            CommentedObject::Column(table, column)
        }
        "constraint" => {
            let name = tokens.name()?;
            tokens.expect_word("on")?;
            CommentedObject::Constraint(name, tokens.table_name()?)
        }
        "database" => CommentedObject::Database(tokens.name()?),
        "schema" => CommentedObject::Schema(tokens.name()?),
        other => {
            return Err(Error::not_supported(format!("COMMENT ON {}", other.to_ascii_uppercase())));
        }
    };
    tokens.expect_word("is")?;
    let text = if tokens.take_word("null") { None } else { Some(tokens.string()?) };
    Ok(Statement::Comment(Comment { object, text }))
}

/// After DROP.
pub(super) fn drop(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let what = tokens.word()?;
    match what.as_str() {
        "table" => {
            let if_exists = tokens.take_words(&["if", "exists"]);
            let tables = tokens.comma_separated(Tokens::table_name)?;
            let cascade = cascade(tokens);
            Ok(Statement::DropTable(DropTable { tables, if_exists, cascade }))
        }
        "schema" => {
            let if_exists = tokens.take_words(&["if", "exists"]);
            let schemas = tokens.comma_separated(Tokens::name)?;
            let cascade = cascade(tokens);
            Ok(Statement::DropSchema(DropSchema { schemas, if_exists, cascade }))
        }
        "user" => users::drop_user(tokens),
        "group" => users::drop_group(tokens),
        "role" => roles::drop(tokens),
        other => Err(Error::not_supported(format!("DROP {}", other.to_ascii_uppercase()))),
    }
}

/// [CASCADE | RESTRICT]
pub(super) fn cascade(tokens: &mut Tokens<'_>) -> bool {
    let cascade = tokens.take_word("cascade");
    if !cascade {
        tokens.take_word("restrict");
    }
    cascade
}

/// After CREATE SCHEMA.
pub(super) fn create_schema(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let if_not_exists = tokens.take_words(&["if", "not", "exists"]);
    let name = if tokens.next_is_word("authorization") { None } else { Some(tokens.name()?) };
    let owner = if tokens.take_word("authorization") { Some(tokens.name()?) } else { None };
    if tokens.next_is_word("quota") {
        return Err(Error::not_supported("QUOTA"));
    }
    let Some(name) = name.or_else(|| owner.clone()) else { return Err(tokens.unexpected()) };
    Ok(Statement::CreateSchema(CreateSchema { name, if_not_exists, owner }))
}

/// After ANALYZE.
pub(super) fn analyze(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.next_is_word("compression") {
        return Err(Error::not_supported("ANALYZE COMPRESSION"));
    }
    let verbose = tokens.take_word("verbose");
    let mut analyze =
        Analyze { verbose, table: None, columns: Vec::new(), predicate_columns: false };
    if tokens.take_words(&["predicate", "columns"]) {
        analyze.predicate_columns = true;
        return Ok(Statement::Analyze(analyze));
    }
    if tokens.at_end() || tokens.take_words(&["all", "columns"]) {
        return Ok(Statement::Analyze(analyze));
    }
    analyze.table = Some(tokens.table_name()?);
    if tokens.peek_is(&Token::LParen) {
        analyze.columns = tokens.name_list()?;
    }
    if tokens.take_words(&["predicate", "columns"]) {
        analyze.predicate_columns = true;
    } else {
        tokens.take_words(&["all", "columns"]);
    }
    Ok(Statement::Analyze(analyze))
}

/// After VACUUM.
pub(super) fn vacuum(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let mode = if tokens.take_words(&["sort", "only"]) {
        VacuumMode::SortOnly
    } else if tokens.take_words(&["delete", "only"]) {
        VacuumMode::DeleteOnly
    } else if tokens.take_word("reindex") {
        VacuumMode::Reindex
    } else if tokens.take_word("recluster") {
        VacuumMode::Recluster
    } else {
        tokens.take_word("full");
        VacuumMode::Full
    };
    let is_option = |tokens: &Tokens<'_>| tokens.next_is_word("to") || tokens.next_is_word("boost");
    let table =
        if tokens.at_end() || is_option(tokens) { None } else { Some(tokens.table_name()?) };
    let percent = if tokens.take_word("to") {
        let percent = tokens.unsigned()?;
        tokens.expect_word("percent")?;
        let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
        Some(percent.ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidParameterValue,
                "vacuum threshold must be 0 to 100 percent",
            )
        })?)
    } else {
        None
    };
    let boost = tokens.take_word("boost");
    Ok(Statement::Vacuum(Vacuum { mode, table, percent, boost }))
}
