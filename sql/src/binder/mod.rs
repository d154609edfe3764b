//! From a syntax tree to a logical plan.
//!
//! A query takes three steps: the tree is prepared ([`prepare`]: names of output columns, lateral
//! aliases, functions of the session, spellings DataFusion does not know), planned by DataFusion's
//! planner over our catalog and functions ([`provider`], [`planner`]), and finished
//! ([`crate::rewrite::finish`]: types of literals, casts, scalar subqueries).

mod array_subquery;
mod change;
mod expression;
mod insert;
mod namesakes;
mod naming;
mod operators;
mod planner;
mod prepare;
mod provider;
mod session_functions;
mod subscripts;
mod system_type;

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::planner::{NullOrdering, ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast;
use std::sync::Arc;

use crate::catalog::{Catalog, SessionValues, TargetTable};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::rewrite;
use crate::statement::{CreateTableAs, Delete, Insert, Merge, Update};
use crate::types::SqlType;
pub use change::{MergeStep, MergeSteps};
use provider::Provider;
pub use session_functions::VERSION;

/// Binds statements against one catalog snapshot for one session.
pub struct Binder<'a> {
    catalog: &'a dyn Catalog,
    session: &'a SessionValues,
    options: ConfigOptions,
}

impl<'a> Binder<'a> {
    /// A binder over a snapshot, for a session.
    pub fn new(catalog: &'a dyn Catalog, session: &'a SessionValues) -> Self {
        Self { catalog, session, options: ConfigOptions::default() }
    }

    /// The plan of a query. `parameter_types` are those of $1, $2, ...; None where not declared.
    ///
    /// The names of the output columns are those the client sees; two columns may have the same
    /// name (with different qualifiers).
    ///
    /// # Errors
    /// All that is wrong with the query, in terms of the client.
    pub fn bind_query(
        &self,
        query: &ast::Query,
        parameter_types: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        let mut query = query.clone();
        namesakes::tell_apart(&mut query, self.catalog)?;
        prepare::query(&mut query, self.catalog, self.session)?;
        let plan = self.plan(query, parameter_types)?;
        naming::restore(rewrite::finish(plan, self.zone())?)
    }

    /// The plan of an INSERT: its output is exactly the columns of the target, in order and type.
    /// NOT NULL is left to the writer. `parameter_types` as for a query.
    ///
    /// # Errors
    /// As for a query, and for columns and values that do not fit the target.
    pub fn bind_insert(
        &self,
        insert: &Insert,
        target: &TargetTable,
        parameter_types: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        insert::bind(self, insert, target, parameter_types)
    }

    /// The plan of CREATE TABLE AS: its output fields are the columns of the new table, with types
    /// for [`SqlType::of_field`].
    ///
    /// # Errors
    /// As for a query, and for columns without a name or a type that tables have.
    pub fn bind_ctas(&self, ctas: &CreateTableAs) -> Result<LogicalPlan> {
        let plan = self.bind_query(&ctas.query, &[])?;
        insert::create_as(plan, &ctas.columns)
    }

    /// The expression of a DEFAULT, cast to the type of its column. It reads no column.
    ///
    /// # Errors
    /// If it does not parse, reads a column or has a subquery.
    pub fn bind_default_expr(&self, text: &str, sql_type: SqlType) -> Result<Expr> {
        let expression = crate::parser::parse_expression(text, &Limits::default())?;
        insert::default_expression(self, &expression, sql_type)
    }

    /// The plan of a DELETE: one column, [`crate::ROW_ID_COLUMN`], the ids of the rows that go. A row
    /// may come several times.
    ///
    /// # Errors
    /// As for a query.
    pub fn bind_delete(
        &self,
        delete: &Delete,
        target: &TargetTable,
        parameter_types: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        change::delete(self, delete, target, parameter_types)
    }

    /// The plan of an UPDATE: the new rows, as [`Binder::bind_insert`] gives them, and after them
    /// [`crate::ROW_ID_COLUMN`], the ids of the rows that they replace. With FROM a row may come
    /// several times.
    ///
    /// # Errors
    /// As for a query, and for columns and values that do not fit the target.
    pub fn bind_update(
        &self,
        update: &Update,
        target: &TargetTable,
        parameter_types: &[Option<DataType>],
    ) -> Result<LogicalPlan> {
        change::update(self, update, target, parameter_types)
    }

    /// A MERGE as the statements that do it, both to be bound over the same snapshot.
    ///
    /// # Errors
    /// For values that do not fit the named columns.
    pub fn merge_steps(&self, merge: &Merge, target: &TargetTable) -> Result<MergeSteps> {
        change::merge(self, merge, target)
    }

    /// The value of an expression without columns, such as an argument of EXECUTE, as a type.
    ///
    /// # Errors
    /// If it is not a constant, or has no value of the type.
    pub fn constant(&self, expression: &ast::Expr, data_type: &DataType) -> Result<ScalarValue> {
        let bound = self.plan_expressions(std::slice::from_ref(expression), &[])?;
        match bound.into_iter().next().map(rewrite::fold).transpose()? {
            Some(Expr::Literal(value, _)) => {
                Ok(crate::functions::cast_constant(&value, data_type, self.zone())?)
            }
            _ => Err(Error::not_supported("an expression that is not constant")),
        }
    }

    /// The time zone of the session.
    fn zone(&self) -> &str {
        &self.session.timezone
    }

    fn plan(&self, query: ast::Query, parameter_types: &[Option<DataType>]) -> Result<LogicalPlan> {
        let provider = Provider::new(self.catalog, self.session, &self.options);
        let planner = SqlToRel::new_with_options(&provider, parser_options());
        let parameters = parameter_types.iter().map(|data_type| {
            data_type.as_ref().map(|data_type| -> FieldRef {
                Arc::new(Field::new("parameter", data_type.clone(), true))
            })
        });
        let mut context = PlannerContext::new().with_prepare_param_data_types(parameters.collect());
        let statement = ast::Statement::Query(Box::new(query));
        let plan = planner.sql_statement_to_plan_with_context(statement, &mut context)?;
        match plan {
            LogicalPlan::Ddl(_)
            | LogicalPlan::Dml(_)
            | LogicalPlan::Copy(_)
            | LogicalPlan::Statement(_) => {
                Err(Error::new(ErrorKind::Internal, "a query was planned as another statement"))
            }
            plan => Ok(plan),
        }
    }

    /// Plans expressions over no input: one row.
    fn plan_expressions(
        &self,
        expressions: &[ast::Expr],
        parameter_types: &[Option<DataType>],
    ) -> Result<Vec<Expr>> {
        let plan = self.bind_query(&expression::select_of(expressions), parameter_types)?;
        match plan {
            LogicalPlan::Projection(projection)
                if matches!(projection.input.as_ref(), LogicalPlan::EmptyRelation(_)) =>
            {
                Ok(projection.expr.into_iter().map(Expr::unalias).collect())
            }
            _ => Err(Error::not_supported("an aggregate, a window function or a set here")),
        }
    }

    /// An empty input of one row, for expressions without columns.
    fn one_row() -> LogicalPlanBuilder {
        LogicalPlanBuilder::empty(true)
    }
}

/// The types of the parameters of a plan, $1 first: as declared, else as the plan uses them.
///
/// # Errors
/// If a parameter has no determinable type.
pub fn parameter_types(plan: &LogicalPlan, declared: &[Option<DataType>]) -> Result<Vec<DataType>> {
    let used = plan.get_parameter_types()?;
    let position = |id: &String| id.trim_start_matches('$').parse::<usize>().unwrap_or(0);
    let count = used.keys().map(position).max().unwrap_or(0).max(declared.len());
    (1..=count)
        .map(|position| {
            let declared = declared.get(position - 1).cloned().flatten();
            let found = used.get(&format!("${position}")).cloned().flatten();
            declared.or(found).ok_or_else(|| {
                Error::new(
                    ErrorKind::IndeterminateType,
                    format!("could not determine data type of parameter ${position}"),
                )
            })
        })
        .collect()
}

fn parser_options() -> ParserOptions {
    ParserOptions::default()
        .with_parse_float_as_decimal(true)
        .with_enable_ident_normalization(false)
        .with_support_varchar_with_length(true)
        .with_map_string_types_to_utf8view(true)
        .with_collect_spans(false)
        .with_default_null_ordering(NullOrdering::NullsMax)
}

#[cfg(test)]
mod tests;
