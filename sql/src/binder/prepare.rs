//! Prepares a syntax tree for DataFusion's planner: what Redshift writes or means otherwise is
//! rewritten tree to tree, so that the planner stays the library's own.

use datafusion::sql::sqlparser::ast::{
    self, Expr, Query, Select, SetExpr, SetOperator, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

use super::naming::{self, Columns};
use super::{array_subquery, operators, session_functions, subscripts, system_type};
use crate::catalog::{Catalog, SessionValues};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::TIMEZONE;

/// Prepares a query in place.
pub(super) fn query(
    query: &mut Query,
    catalog: &dyn Catalog,
    session: &SessionValues,
) -> Result<()> {
    let mut preparation = Preparation { columns: Columns::new(catalog), session, substituted: 0 };
    match VisitMut::visit(query, &mut preparation) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Most items of a SELECT list.
const OUTPUTS_MAX: usize = 1_664;
/// Most expressions that aliases may be replaced by; aliases of aliases grow exponentially.
const SUBSTITUTIONS_MAX: usize = 1_000;

struct Preparation<'a> {
    columns: Columns<'a>,
    session: &'a SessionValues,
    substituted: usize,
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

impl VisitorMut for Preparation<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        self.columns.enter(query);
        flow(prepare_query(query))
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Error> {
        self.columns.leave();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        flow(array_subquery::replace(expr))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(self.select(select))
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        flow(expression(expr, self.session))
    }
}

/// TOP, MINUS and what Redshift does not have.
fn prepare_query(query: &mut Query) -> Result<()> {
    if !query.locks.is_empty() {
        return Err(Error::not_supported("SELECT FOR UPDATE"));
    }
    if query.fetch.is_some() {
        return Err(Error::not_supported("FETCH FIRST"));
    }
    let mut top = None;
    match query.body.as_mut() {
        SetExpr::Select(select) => top = select.top.take(),
        body => minus_to_except(body),
    }
    let Some(top) = top else { return Ok(()) };
    if query.limit_clause.is_some() {
        return Err(Error::syntax("TOP and LIMIT cannot both be specified"));
    }
    let limit = match top.quantity {
        Some(ast::TopQuantity::Constant(rows)) => number(&rows.to_string()),
        Some(ast::TopQuantity::Expr(expr)) => expr,
        None => return Err(Error::syntax("TOP needs a number")),
    };
    if top.percent || top.with_ties {
        return Err(Error::not_supported("TOP PERCENT or WITH TIES"));
    }
    query.limit_clause =
        Some(ast::LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by: vec![] });
    Ok(())
}

fn minus_to_except(body: &mut SetExpr) {
    if let SetExpr::SetOperation { left, op, right, .. } = body {
        if *op == SetOperator::Minus {
            *op = SetOperator::Except;
        }
        minus_to_except(left);
        minus_to_except(right);
    }
}

impl Preparation<'_> {
    fn select(&mut self, select: &mut Select) -> Result<()> {
        if !select.named_window.is_empty() {
            return Err(Error::not_supported("WINDOW clause"));
        }
        if !select.connect_by.is_empty() {
            return Err(Error::not_supported("CONNECT BY"));
        }
        if select.exclude.is_some() {
            return Err(Error::not_supported("EXCLUDE"));
        }
        if let Some(ast::Distinct::On(_)) = select.distinct {
            return Err(Error::not_supported("DISTINCT ON"));
        }
        if select.projection.len() > OUTPUTS_MAX {
            return Err(Error::new(
                ErrorKind::TooManyColumns,
                format!("target lists can have at most {OUTPUTS_MAX} entries"),
            ));
        }
        if let Some(name) = self.columns.repeated_name(&select.from) {
            return Err(Error::new(
                ErrorKind::DuplicateAlias,
                format!("table name \"{name}\" specified more than once"),
            ));
        }
        join_excluded(select);
        self.lateral_aliases(select)?;
        if self.columns.is_outermost() {
            system_type::show_names(&mut select.projection);
        }
        naming::name_outputs(select, self.columns.is_outermost());
        Ok(())
    }

    /// Replaces the aliases of the SELECT list in later items and in WHERE, unless a column of FROM
    /// has the name.
    fn lateral_aliases(&mut self, select: &mut Select) -> Result<()> {
        let has_alias = select
            .projection
            .iter()
            .any(|item| matches!(item, ast::SelectItem::ExprWithAlias { .. }));
        if !has_alias {
            return Ok(());
        }
        let columns = self.columns.of_from(&select.from);
        let mut aliases: Vec<(String, Expr)> = Vec::new();
        for item in &mut select.projection {
            match item {
                ast::SelectItem::UnnamedExpr(expr) => self.substitute(expr, &aliases)?,
                ast::SelectItem::ExprWithAlias { expr, alias } => {
                    self.substitute(expr, &aliases)?;
                    if !columns.contains(&alias.value) {
                        aliases.push((alias.value.clone(), expr.clone()));
                    }
                }
                _ => {}
            }
        }
        for condition in [&mut select.selection, &mut select.qualify].into_iter().flatten() {
            self.substitute(condition, &aliases)?;
        }
        Ok(())
    }

    fn substitute(&mut self, expr: &mut Expr, aliases: &[(String, Expr)]) -> Result<()> {
        if aliases.is_empty() {
            return Ok(());
        }
        let mut substitution = Substitution { aliases, query_depth: 0, replaced: 0 };
        let _ = VisitMut::visit(expr, &mut substitution);
        self.substituted += substitution.replaced;
        if self.substituted > SUBSTITUTIONS_MAX {
            return Err(Error::new(ErrorKind::StatementTooComplex, "stack depth limit exceeded")
                .with_detail("Column aliases refer to each other too often."));
        }
        Ok(())
    }
}

struct Substitution<'a> {
    aliases: &'a [(String, Expr)],
    query_depth: usize,
    replaced: usize,
}

impl VisitorMut for Substitution<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.query_depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.query_depth -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.query_depth > 0 {
            return ControlFlow::Continue(());
        }
        if let Expr::Identifier(name) = expr
            && let Some((_, replacement)) =
                self.aliases.iter().find(|(alias, _)| *alias == name.value)
        {
            self.replaced += naming::size(replacement);
            *expr = Expr::Nested(Box::new(replacement.clone()));
        }
        if self.replaced > SUBSTITUTIONS_MAX {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// One expression, its operands done already.
fn expression(expr: &mut Expr, session: &SessionValues) -> Result<()> {
    let replacement = match expr {
        Expr::Nested(inner) => Some(std::mem::replace(inner.as_mut(), null())),
        Expr::Identifier(name) if name.quote_style.is_none() => {
            session_functions::keyword(&name.value, session)
        }
        Expr::Value(value) => match &value.value {
            // A number with an exponent is a double.
            ast::Value::Number(text, _) if text.contains(['e', 'E']) => {
                Some(cast(string(text), ast::DataType::DoublePrecision))
            }
            ast::Value::EscapedStringLiteral(text) | ast::Value::NationalStringLiteral(text) => {
                Some(string(text))
            }
            _ => None,
        },
        Expr::UnaryOp { op, expr } => unary(*op, expr.as_mut())?,
        Expr::BinaryOp { left, op, right } => operators::binary(left, op, right),
        Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => {
            operators::pattern(expr)?
        }
        Expr::Collate { expr, collation } => Some(collated(expr, collation)?),
        Expr::Interval(interval) => {
            prepare_interval(interval);
            None
        }
        Expr::Convert { expr, data_type: Some(data_type), is_try: false, .. } => {
            Some(cast(std::mem::replace(expr.as_mut(), null()), data_type.clone()))
        }
        Expr::AtTimeZone { timestamp, time_zone } => Some(call(
            TIMEZONE,
            vec![
                std::mem::replace(time_zone.as_mut(), null()),
                std::mem::replace(timestamp.as_mut(), null()),
            ],
        )),
        Expr::Cast { array: true, .. } | Expr::Array(_) => {
            return Err(Error::not_supported("type array"));
        }
        Expr::Cast { expr, data_type, .. } => system_type::replacement(expr, data_type),
        Expr::IsDistinctFrom(..) | Expr::IsNotDistinctFrom(..) => None,
        Expr::Function(function) => session_functions::function(function, session)?,
        Expr::JsonAccess { value, path } => Some(subscripts::replacement(value, path)?),
        _ => None,
    };
    if let Some(replacement) = replacement {
        *expr = replacement;
    }
    Ok(())
}

fn unary(op: ast::UnaryOperator, operand: &mut Expr) -> Result<Option<Expr>> {
    let name = match op {
        ast::UnaryOperator::Minus => {
            // A sign in front of a number belongs to it, so that the least BIGINT can be written.
            let is_number = matches!(operand, Expr::Value(value) if matches!(value.value, ast::Value::Number(..)));
            if is_number {
                return Ok(None);
            }
            "negate"
        }
        ast::UnaryOperator::Plus => return Ok(Some(std::mem::replace(operand, null()))),
        ast::UnaryOperator::Not => return Ok(None),
        // The complement of two is what differs from -1 in every bit.
        ast::UnaryOperator::BitwiseNot => {
            let operand = std::mem::replace(operand, null());
            let ones = Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr: Box::new(number("1")) };
            return Ok(Some(Expr::BinaryOp {
                left: Box::new(operand),
                op: ast::BinaryOperator::PGBitwiseXor,
                right: Box::new(ones),
            }));
        }
        ast::UnaryOperator::PGAbs => "abs",
        ast::UnaryOperator::PGSquareRoot => "sqrt",
        ast::UnaryOperator::PGCubeRoot => "cbrt",
        other => return Err(Error::not_supported(format!("operator {other}"))),
    };
    Ok(Some(call(name, vec![std::mem::replace(operand, null())])))
}

/// Commas between the parts of an interval and the precision of its leading field mean nothing, and
/// a time of day is so many hours, minutes and seconds.
fn prepare_interval(interval: &mut ast::Interval) {
    interval.leading_precision = None;
    if let Expr::Value(value) = interval.value.as_mut()
        && let ast::Value::SingleQuotedString(text) = &mut value.value
    {
        let parts = text.split([',', ' ']).filter(|part| !part.is_empty());
        *text = parts.map(interval_part).collect::<Vec<_>>().join(" ");
    }
}

fn interval_part(part: &str) -> String {
    let (sign, unsigned) = match part.strip_prefix('-') {
        Some(unsigned) => ("-", unsigned),
        None => ("", part.strip_prefix('+').unwrap_or(part)),
    };
    let numbers: Vec<&str> = unsigned.split(':').collect();
    match numbers.as_slice() {
        [hours, minutes] => format!("{sign}{hours} hours {sign}{minutes} minutes"),
        [hours, minutes, seconds] => {
            format!("{sign}{hours} hours {sign}{minutes} minutes {sign}{seconds} seconds")
        }
        _ => part.to_owned(),
    }
}

/// Strings are ordered by their bytes; other orders are refused.
fn collated(expr: &mut Expr, collation: &ast::ObjectName) -> Result<Expr> {
    let name = collation.to_string().replace('"', "").to_lowercase();
    match name.as_str() {
        "c" | "posix" | "default" | "case_sensitive" | "cs" => Ok(std::mem::replace(expr, null())),
        _ => Err(Error::not_supported(format!("collation {name}"))),
    }
}

/// `* EXCLUDE a, b` excludes both, though without parentheses the parser takes b for a column.
fn join_excluded(select: &mut Select) {
    let [ast::SelectItem::Wildcard(options), rest @ ..] = select.projection.as_mut_slice() else {
        return;
    };
    let Some(ast::ExcludeSelectItem::Single(first)) = &options.opt_exclude else { return };
    let names: Option<Vec<ast::ObjectName>> = rest
        .iter()
        .map(|item| match item {
            ast::SelectItem::UnnamedExpr(Expr::Identifier(name)) => {
                Some(ast::ObjectName::from(vec![name.clone()]))
            }
            _ => None,
        })
        .collect();
    if let Some(names) = names
        && !names.is_empty()
    {
        let all = std::iter::once(first.clone()).chain(names).collect();
        options.opt_exclude = Some(ast::ExcludeSelectItem::Multiple(all));
        select.projection.truncate(1);
    }
}

pub(super) fn null() -> Expr {
    Expr::Value(ast::Value::Null.into())
}

pub(super) fn string(text: &str) -> Expr {
    Expr::Value(ast::Value::SingleQuotedString(text.to_owned()).into())
}

pub(super) fn number(text: &str) -> Expr {
    Expr::Value(ast::Value::Number(text.to_owned(), false).into())
}

pub(super) fn cast(expr: Expr, data_type: ast::DataType) -> Expr {
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(expr),
        data_type,
        array: false,
        format: None,
    }
}

pub(super) fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let arguments = arguments
        .into_iter()
        .map(|argument| ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(argument)));
    Expr::Function(ast::Function {
        name: ast::ObjectName::from(vec![ast::Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: ast::FunctionArguments::None,
        args: ast::FunctionArguments::List(ast::FunctionArgumentList {
            duplicate_treatment: None,
            args: arguments.collect(),
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}
