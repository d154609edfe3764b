//! Queries made around expressions, so that one planner binds them all.

use datafusion::sql::sqlparser::ast::{self, Ident};

use crate::error::Result;
use crate::error::{Error, ErrorKind};
use crate::limits::Limits;
use crate::statement::Statement;

/// SELECT of the expressions without FROM, with distinct names.
pub(super) fn select_of(expressions: &[ast::Expr]) -> ast::Query {
    let items =
        expressions.iter().enumerate().map(|(index, expr)| ast::SelectItem::ExprWithAlias {
            expr: expr.clone(),
            alias: Ident::new(format!("c{index}")),
        });
    let mut query = template();
    if let ast::SetExpr::Select(select) = query.body.as_mut() {
        select.projection = items.collect();
    }
    query
}

/// A query of one row, to be made into another.
pub(super) fn template() -> ast::Query {
    #[expect(clippy::expect_used, reason = "the text is a constant that a test parses")]
    parse_template("select 1").expect("a constant query parses")
}

/// The query of a text of ours.
pub(super) fn parse_template(text: &str) -> Result<ast::Query> {
    match crate::parser::parse(text, &Limits::default())?.pop().map(|parsed| parsed.statement) {
        Some(Statement::Query(query)) => Ok(*query),
        _ => Err(Error::new(ErrorKind::Internal, "the template is not a query")),
    }
}
