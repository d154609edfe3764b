//! `ARRAY(SELECT x FROM ...)`: a list of all values of a query. It becomes the aggregate of a scalar
//! subquery, which the planner knows how to join, also where it refers to the query around it.

use datafusion::sql::sqlparser::ast::{
    self, Expr, FunctionArgumentClause, FunctionArguments, SelectItem, SetExpr,
};

use super::prepare::call;
use crate::error::{Error, Result};

/// The aggregate.
const AGGREGATE: &str = "array_agg";
/// The catalog's function that makes an empty list of NULL, which the aggregate of no rows is.
const OR_EMPTY: &str = "array_or_empty";

/// Replaces the expression if it is such a list.
pub(super) fn replace(expr: &mut Expr) -> Result<()> {
    let Expr::Function(function) = expr else { return Ok(()) };
    let FunctionArguments::Subquery(query) = &mut function.args else { return Ok(()) };
    if !function.name.to_string().eq_ignore_ascii_case("array") {
        return Ok(());
    }
    let order = query.order_by.take();
    let is_plain = query.limit_clause.is_none() && query.with.is_none();
    let SetExpr::Select(select) = query.body.as_mut() else { return Err(refused()) };
    let groups =
        matches!(&select.group_by, ast::GroupByExpr::Expressions(keys, _) if keys.is_empty());
    let is_plain = is_plain && groups && select.distinct.is_none() && select.having.is_none();
    let (value, label) = match select.projection.as_slice() {
        [SelectItem::UnnamedExpr(value)] => (value.clone(), None),
        [SelectItem::ExprWithAlias { expr, alias }] => (expr.clone(), Some(alias.value.clone())),
        _ => return Err(refused()),
    };
    if !is_plain {
        return Err(refused());
    }
    let mut aggregate = call(AGGREGATE, vec![value.clone()]);
    if let Some(ast::OrderBy { kind: ast::OrderByKind::Expressions(mut keys), .. }) = order
        && let Expr::Function(call) = &mut aggregate
        && let FunctionArguments::List(list) = &mut call.args
    {
        for key in &mut keys {
            if names_item(&key.expr, label.as_deref()) {
                key.expr = value.clone();
            }
        }
        list.clauses.push(FunctionArgumentClause::OrderBy(keys));
    }
    select.projection = vec![SelectItem::UnnamedExpr(aggregate)];
    let subquery = Expr::Subquery(query.clone());
    *expr = call(OR_EMPTY, vec![subquery]);
    Ok(())
}

/// Whether a sort key is the item of the SELECT list, by its position or its alias.
fn names_item(key: &Expr, label: Option<&str>) -> bool {
    match key {
        Expr::Value(value) => matches!(value.value, ast::Value::Number(..)),
        Expr::Identifier(name) => label == Some(name.value.as_str()),
        _ => false,
    }
}

fn refused() -> Error {
    Error::not_supported("ARRAY of a query that is not a plain SELECT of one column")
}
