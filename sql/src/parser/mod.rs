//! From text to statements.
//!
//! Queries and expressions are parsed by `sqlparser`; every statement around them by the small
//! parsers of this folder, over the same tokens, so that what Redshift adds is understood and what
//! we do not support is refused by name.

mod alter_table;
mod change;
mod copy;
mod create_table;
mod data;
mod roles;
mod session;
mod spelling;
mod table_attributes;
mod tokens;
mod users;

pub use create_table::check_encoding;

use std::ops::{ControlFlow, Range};

use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};

use crate::dialect::{Positions, tokenize, tokenize_raw};
use crate::error::{Error, Result};
use crate::limits::{Limits, check_shape, check_text};
use crate::statement::{CreateTableAs, Explain, Parsed, Statement, TableAttributes};
use tokens::Tokens;

/// Parses a text of any number of statements; an empty text is an empty list.
pub fn parse(text: &str, limits: &Limits) -> Result<Vec<Parsed>> {
    check_text(text, limits)?;
    let tokens = tokenize(text)?;
    let positions = Positions::new(text);
    let mut parsed = Vec::new();
    let mut start = 0;
    for statement_tokens in tokens.split(|token| token.token == Token::SemiColon) {
        let token_range = start..start + statement_tokens.len();
        start = token_range.end + 1;
        let significant = |token: &&TokenWithSpan| !is_blank(&token.token);
        let first = statement_tokens.iter().find(significant);
        let last = statement_tokens.iter().rfind(significant);
        let (Some(first), Some(last)) = (first, last) else { continue };
        let range = positions.byte(first.span.start)..positions.byte(last.span.end);
        check_shape(statement_tokens, limits)?;
        // COPY reads its strings as written: '\N' is not the letter N there.
        let own_tokens = if is_word(&first.token, "copy") {
            tokenize_raw(text)?[token_range].to_vec()
        } else {
            spelling::known(statement_tokens)
        };
        let statement = parse_one(own_tokens, limits, &positions)?;
        let shown = without_secrets(text, &range, statement_tokens, &positions);
        parsed.push(Parsed { statement, text: range, shown });
    }
    Ok(parsed)
}

/// Stands for a text that cannot be shown.
const HIDDEN: &str = "(not shown)";

/// The text of a statement with passwords and keys left out.
fn without_secrets(
    text: &str,
    range: &Range<usize>,
    statement_tokens: &[TokenWithSpan],
    positions: &Positions<'_>,
) -> String {
    let mut shown = String::with_capacity(range.len());
    let mut copied = range.start;
    let mut before: Vec<&Token> = Vec::new();
    for token in statement_tokens.iter().filter(|token| !is_blank(&token.token)) {
        let is_string =
            matches!(token.token, Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_));
        if is_string && users::is_secret(&before) {
            // Should a place ever be unknown, nothing is shown.
            let Some(plain) = text.get(copied..positions.byte(token.span.start)) else {
                return HIDDEN.to_owned();
            };
            shown.push_str(plain);
            shown.push_str("'***'");
            copied = positions.byte(token.span.end);
        }
        before.push(&token.token);
    }
    match text.get(copied..range.end) {
        Some(rest) => shown + rest,
        None => HIDDEN.to_owned(),
    }
}

/// Parses a single expression, such as the text of a DEFAULT.
pub fn parse_expression(text: &str, limits: &Limits) -> Result<ast::Expr> {
    check_text(text, limits)?;
    let tokens = tokenize(text)?;
    check_shape(&tokens, limits)?;
    let mut tokens = Tokens::new(spelling::known(&tokens), limits);
    let expression = tokens.expression().and_then(|expression| {
        tokens.end()?;
        Ok(expression)
    });
    expression.map_err(|error| tokens.locate(error, &Positions::new(text)))
}

fn is_word(token: &Token, expected: &str) -> bool {
    matches!(token, Token::Word(word) if word.quote_style.is_none() && word.value == expected)
}

fn is_blank(token: &Token) -> bool {
    matches!(token, Token::Whitespace(_) | Token::EOF)
}

fn parse_one(
    statement_tokens: Vec<TokenWithSpan>,
    limits: &Limits,
    positions: &Positions<'_>,
) -> Result<Statement> {
    let mut tokens = Tokens::new(statement_tokens, limits);
    let statement = statement(&mut tokens).and_then(|statement| {
        tokens.end()?;
        Ok(statement)
    });
    statement.map_err(|error| tokens.locate(error, positions))
}

/// One statement: the first word decides.
fn statement(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.with_changes_rows() {
        return change::after_with(tokens);
    }
    if tokens.starts_query() {
        return query(tokens);
    }
    let word = tokens.word()?;
    match word.as_str() {
        "insert" => data::insert(tokens),
        "delete" => change::delete(tokens),
        "update" => change::update(tokens),
        "merge" => change::merge(tokens),
        "truncate" => data::truncate(tokens),
        "lock" => data::lock(tokens),
        "create" => create(tokens),
        "comment" => data::comment(tokens),
        "drop" => data::drop(tokens),
        "copy" => copy::copy(tokens),
        "explain" => explain(tokens),
        "set" => session::set(tokens),
        "show" => session::show(tokens),
        "reset" => session::reset(tokens),
        "alter" => session::alter(tokens),
        "analyze" | "analyse" => data::analyze(tokens),
        "vacuum" => data::vacuum(tokens),
        "begin" => session::begin(tokens),
        "start" => {
            tokens.expect_word("transaction")?;
            session::begin(tokens)
        }
        "commit" | "end" => session::commit(tokens),
        "rollback" | "abort" => session::rollback(tokens),
        "savepoint" => tokens.name().map(Statement::Savepoint),
        "release" => session::release(tokens),
        "discard" => session::discard(tokens),
        "prepare" => session::prepare(tokens),
        "execute" => session::execute(tokens),
        "deallocate" => session::deallocate(tokens),
        "declare" => session::declare(tokens),
        "fetch" => session::fetch(tokens),
        "close" => session::close(tokens),
        "cancel" => session::cancel(tokens),
        "grant" => roles::grant(tokens),
        "revoke" => roles::revoke(tokens),
        other => Err(refused(other, tokens)),
    }
}

/// Statements that Redshift or Postgres knows and we do not: refused by name. All else is a syntax
/// error.
fn refused(word: &str, tokens: &Tokens<'_>) -> Error {
    const KNOWN: [&str; 15] = [
        "unload", "lock", "call", "use", "move", "listen", "notify", "unlisten", "do", "refresh",
        "import", "attach", "detach", "describe", "reindex",
    ];
    if KNOWN.contains(&word) {
        Error::not_supported(word.to_ascii_uppercase())
    } else {
        tokens.unexpected_previous()
    }
}

/// A query, which SELECT ... INTO turns into CREATE TABLE AS.
fn query(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let mut query = tokens.query()?;
    let into = first_select(&mut query).and_then(|select| select.into.take());
    if has_into(&query) {
        return Err(Error::syntax(
            "INTO is only allowed on first SELECT of UNION/INTERSECT/EXCEPT",
        ));
    }
    let Some(into) = into else {
        return Ok(Statement::Query(query));
    };
    let parts: Vec<ast::Ident> =
        into.name.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
    let name = tokens::table_name_of(&parts)?;
    Ok(Statement::CreateTableAs(CreateTableAs {
        temporary: create_table::is_temporary(&name, into.temporary)?,
        name,
        if_not_exists: false,
        columns: Vec::new(),
        attributes: TableAttributes::default(),
        query,
    }))
}

/// The first SELECT of a query, of several that UNION and the like put together too.
fn first_select(query: &mut ast::Query) -> Option<&mut ast::Select> {
    let mut body = query.body.as_mut();
    loop {
        body = match body {
            ast::SetExpr::Select(select) => return Some(select),
            ast::SetExpr::SetOperation { left, .. } => left,
            _ => return None,
        };
    }
}

/// Whether there is an INTO in any part of it.
fn has_into(query: &ast::Query) -> bool {
    struct Into;
    impl ast::Visitor for Into {
        type Break = ();
        fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<()> {
            if select.into.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    ast::Visit::visit(query, &mut Into).is_break()
}

fn create(tokens: &mut Tokens<'_>) -> Result<Statement> {
    if tokens.take_word("table") {
        return create_table::create_table(tokens, false);
    }
    if tokens.take_word("schema") {
        return data::create_schema(tokens);
    }
    if tokens.take_word("user") {
        return users::create_user(tokens);
    }
    if tokens.take_word("group") {
        return users::create_group(tokens);
    }
    if tokens.take_word("role") {
        return roles::create(tokens);
    }
    let local = tokens.take_word("local");
    if tokens.take_word("temporary") || tokens.take_word("temp") {
        if tokens.take_word("table") {
            return create_table::create_table(tokens, true);
        }
        let what = tokens.word()?.to_ascii_uppercase();
        return Err(Error::not_supported(format!("CREATE TEMPORARY {what}")));
    }
    if local {
        return Err(tokens.unexpected());
    }
    let words: Vec<String> =
        [tokens.peek_word(0), tokens.peek_word(1)].into_iter().flatten().collect();
    match words.first().map(String::as_str) {
        Some("or") => Err(Error::not_supported("CREATE OR REPLACE")),
        Some(what) => Err(Error::not_supported(format!("CREATE {}", what.to_ascii_uppercase()))),
        None => Err(tokens.unexpected()),
    }
}

fn explain(tokens: &mut Tokens<'_>) -> Result<Statement> {
    let analyze = tokens.take_word("analyze") || tokens.take_word("analyse");
    let verbose = tokens.take_word("verbose");
    let explained = statement(tokens)?;
    match explained {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Delete(_)
        | Statement::Update(_)
        | Statement::Merge(_)
        | Statement::CreateTableAs(_) => {
            Ok(Statement::Explain(Explain { analyze, verbose, statement: Box::new(explained) }))
        }
        _ => Err(Error::syntax(
            "EXPLAIN takes SELECT, INSERT, UPDATE, DELETE, MERGE or CREATE TABLE AS",
        )),
    }
}

#[cfg(test)]
mod tests;
