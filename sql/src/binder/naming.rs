//! Names: which columns a FROM clause offers, and what an output column is called.
//!
//! Each item of a SELECT list gets the name Redshift gives it, as an alias. DataFusion refuses two
//! equal names in one list, so that later ones get a suffix, which [`restore`] takes off again.

use datafusion::common::TableReference;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    self, Expr, Ident, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Visit,
    Visitor,
};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use crate::catalog::Catalog;
use crate::error::Result;

/// Between a name and the number that tells it from an equal one; no identifier holds it.
const SUFFIX: char = '\u{1f}';
/// The name of an expression that has none.
const UNNAMED: &str = "?column?";
/// How deep names are looked for in nested queries.
const DEPTH_MAX: usize = 128;

/// The columns that names in scope stand for.
pub(super) struct Columns<'a> {
    catalog: &'a dyn Catalog,
    /// One map of common table expressions for each open query.
    scopes: Vec<HashMap<String, Vec<String>>>,
}

impl<'a> Columns<'a> {
    pub(super) fn new(catalog: &'a dyn Catalog) -> Self {
        Self { catalog, scopes: Vec::new() }
    }

    /// Opens the scope of a query: its common table expressions become visible.
    pub(super) fn enter(&mut self, query: &Query) {
        self.scopes.push(HashMap::new());
        if self.scopes.len() > DEPTH_MAX {
            return;
        }
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = if cte.alias.columns.is_empty() {
                self.of_query(&cte.query)
            } else {
                cte.alias.columns.iter().map(|column| column.name.value.clone()).collect()
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.insert(cte.alias.name.value.clone(), columns);
            }
        }
    }

    /// Closes the scope of a query.
    pub(super) fn leave(&mut self) {
        self.scopes.pop();
    }

    /// Whether the open query is the statement's own.
    pub(super) fn is_outermost(&self) -> bool {
        self.scopes.len() == 1
    }

    /// The columns of all relations of a FROM clause; those of unknown relations are left out.
    pub(super) fn of_from(&mut self, from: &[TableWithJoins]) -> Vec<String> {
        self.relations(from).into_iter().flat_map(|(_, columns)| columns).collect()
    }

    /// A name that two relations of a FROM clause have.
    pub(super) fn repeated_name(&self, from: &[TableWithJoins]) -> Option<String> {
        let mut seen = HashSet::new();
        let factors = from.iter().flat_map(|table| {
            std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation))
        });
        let names = factors.filter_map(|factor| match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. } => Some(alias.name.value.clone()),
            TableFactor::Table { name, .. } => Some(name.to_string()),
            _ => None,
        });
        names.into_iter().find(|name| !seen.insert(name.clone()))
    }

    fn relations(&mut self, from: &[TableWithJoins]) -> Vec<(Option<String>, Vec<String>)> {
        let mut relations = Vec::new();
        for table in from {
            self.factor(&table.relation, &mut relations);
            for join in &table.joins {
                self.factor(&join.relation, &mut relations);
            }
        }
        relations
    }

    fn factor(&mut self, factor: &TableFactor, relations: &mut Vec<(Option<String>, Vec<String>)>) {
        match factor {
            TableFactor::Table { name, alias, .. } => {
                let parts: Vec<String> = name
                    .0
                    .iter()
                    .filter_map(|part| part.as_ident().map(|ident| ident.value.clone()))
                    .collect();
                let columns = self.of_table(&parts);
                relations.push(aliased(alias.as_ref(), parts.last().cloned(), columns));
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let columns = self.of_query(subquery);
                relations.push(aliased(alias.as_ref(), None, columns));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                relations.extend(self.relations(std::slice::from_ref(table_with_joins)));
            }
            _ => {}
        }
    }

    fn of_table(&self, parts: &[String]) -> Vec<String> {
        if let [name] = parts
            && let Some(columns) = self.scopes.iter().rev().find_map(|scope| scope.get(name))
        {
            return columns.clone();
        }
        let Some((name, qualifiers)) = parts.split_last() else { return Vec::new() };
        match self.catalog.table(qualifiers.last().map(String::as_str), name) {
            Some(table) => {
                table.source.schema().fields().iter().map(|field| field.name().clone()).collect()
            }
            None => Vec::new(),
        }
    }

    fn of_query(&mut self, query: &Query) -> Vec<String> {
        if self.scopes.len() > DEPTH_MAX {
            return Vec::new();
        }
        self.enter(query);
        let columns = self.of_body(&query.body);
        self.leave();
        columns
    }

    fn of_body(&mut self, body: &SetExpr) -> Vec<String> {
        match body {
            SetExpr::Select(select) => self.of_select(select),
            SetExpr::Query(query) => self.of_query(query),
            SetExpr::SetOperation { left, .. } => self.of_body(left),
            _ => Vec::new(),
        }
    }

    fn of_select(&mut self, select: &Select) -> Vec<String> {
        let mut columns = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) => columns.push(name_of(expr)),
                SelectItem::ExprWithAlias { alias, .. } => columns.push(alias.value.clone()),
                SelectItem::Wildcard(_) => columns.extend(self.of_from(&select.from)),
                SelectItem::QualifiedWildcard(kind, _) => {
                    let qualifier = kind.to_string();
                    let relations = self.relations(&select.from).into_iter();
                    let named = relations.filter(|(name, _)| name.as_ref() == Some(&qualifier));
                    columns.extend(named.flat_map(|(_, columns)| columns));
                }
                SelectItem::ExprWithAliases { .. } => {}
            }
        }
        columns
    }
}

fn aliased(
    alias: Option<&ast::TableAlias>,
    name: Option<String>,
    mut columns: Vec<String>,
) -> (Option<String>, Vec<String>) {
    let Some(alias) = alias else { return (name, columns) };
    for (column, renamed) in columns.iter_mut().zip(&alias.columns) {
        column.clone_from(&renamed.name.value);
    }
    (Some(alias.name.value.clone()), columns)
}

/// Gives each item of the SELECT list its name, later equal ones a suffix.
pub(super) fn name_outputs(select: &mut Select, outermost: bool) {
    let has_wildcard = select
        .projection
        .iter()
        .any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut seen = HashSet::new();
    for (index, item) in select.projection.iter_mut().enumerate() {
        let (expr, name, is_named) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None, false),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(alias.value.clone()), true),
            _ => continue,
        };
        let is_column = matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
        let name = name.unwrap_or_else(|| name_of(expr));
        let repeated = !seen.insert(name.clone()) || (has_wildcard && outermost);
        let alias = if repeated { format!("{name}{SUFFIX}{index}") } else { name };
        if repeated || !(is_named || is_column) || is_session_keyword(expr) {
            let expr = std::mem::replace(expr, super::prepare::null());
            *item = SelectItem::ExprWithAlias { expr, alias: Ident::new(alias) };
        }
    }
}

/// Identifiers that stand for a value, not a column.
fn is_session_keyword(expr: &Expr) -> bool {
    matches!(expr, Expr::Identifier(name) if super::session_functions::is_keyword(name))
}

/// Takes the suffixes off the output of a plan; equal names are told apart by qualifiers.
pub(super) fn restore(plan: LogicalPlan) -> Result<LogicalPlan> {
    let has_suffix = plan.schema().fields().iter().any(|field| field.name().contains(SUFFIX));
    if !has_suffix {
        return Ok(plan);
    }
    let columns = plan.schema().columns();
    let expressions = columns.into_iter().enumerate().map(|(index, column)| {
        let name = column.name.split(SUFFIX).next().unwrap_or_default().to_owned();
        let qualifier = TableReference::bare(format!("#{index}"));
        PlanExpr::Column(column).alias_qualified(Some(qualifier), name)
    });
    let expressions: Vec<PlanExpr> = expressions.collect();
    Ok(LogicalPlanBuilder::from(plan).project(expressions)?.build()?)
}

/// What Redshift calls the column of an expression.
pub(super) fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(name) if super::session_functions::is_keyword(name) => {
            function_name(&name.value)
        }
        Expr::Identifier(name) => name.value.clone(),
        Expr::CompoundIdentifier(parts) => {
            parts.last().map_or_else(|| UNNAMED.to_owned(), |part| part.value.clone())
        }
        Expr::Nested(inner) => name_of(inner),
        Expr::Function(function) => {
            function_name(&function.name.0.last().map(ToString::to_string).unwrap_or_default())
        }
        Expr::Cast { expr, data_type, .. } => match name_of(expr) {
            name if name == UNNAMED => type_name(data_type),
            name => name,
        },
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => "interval".to_owned(),
        Expr::Case { .. } => "case".to_owned(),
        Expr::Extract { .. } => "date_part".to_owned(),
        Expr::Ceil { .. } => "ceil".to_owned(),
        Expr::Floor { .. } => "floor".to_owned(),
        Expr::Substring { .. } => "substring".to_owned(),
        Expr::Position { .. } => "position".to_owned(),
        Expr::Trim { .. } => "btrim".to_owned(),
        Expr::Value(value) if matches!(value.value, ast::Value::Boolean(_)) => "bool".to_owned(),
        _ => UNNAMED.to_owned(),
    }
}

fn function_name(name: &str) -> String {
    match name {
        "dateadd" => "date_add",
        "datediff" => "date_diff",
        "pgdate_part" => "date_part",
        "nvl" => "coalesce",
        "decode" | "nvl2" => "case",
        "current_date" => "date",
        "current_timestamp" => "now",
        "sysdate" => "timestamp",
        "user" | "current_user" => "current_user",
        other => other,
    }
    .to_owned()
}

fn type_name(data_type: &ast::DataType) -> String {
    use crate::types::SqlType;
    match SqlType::from_cast_ast(data_type) {
        Ok(SqlType::Boolean) => "bool".to_owned(),
        Ok(SqlType::SmallInt) => "int2".to_owned(),
        Ok(SqlType::Integer) => "int4".to_owned(),
        Ok(SqlType::BigInt) => "int8".to_owned(),
        Ok(SqlType::Decimal { .. }) => "numeric".to_owned(),
        Ok(SqlType::Real) => "float4".to_owned(),
        Ok(SqlType::Double) => "float8".to_owned(),
        Ok(SqlType::Char(_)) => "bpchar".to_owned(),
        Ok(SqlType::VarChar(_)) => "varchar".to_owned(),
        Ok(SqlType::Date) => "date".to_owned(),
        Ok(SqlType::Time) => "time".to_owned(),
        Ok(SqlType::TimeTz) => "timetz".to_owned(),
        Ok(SqlType::Timestamp) => "timestamp".to_owned(),
        Ok(SqlType::TimestampTz) => "timestamptz".to_owned(),
        Err(_) => UNNAMED.to_owned(),
    }
}

/// The number of expressions in a tree.
pub(super) fn size(expr: &Expr) -> usize {
    struct Size(usize);
    impl Visitor for Size {
        type Break = ();
        fn pre_visit_expr(&mut self, _expr: &Expr) -> ControlFlow<()> {
            self.0 += 1;
            ControlFlow::Continue(())
        }
    }
    let mut size = Size(0);
    let _ = expr.visit(&mut size);
    size.0
}
