//! INSERT and CREATE TABLE AS: plans whose output is exactly the columns of the target.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use std::collections::HashSet;
use std::sync::Arc;

use super::Binder;
use crate::catalog::{TargetColumn, TargetTable};
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{Arithmetic, CastMode, UTC, arithmetic, cast_call, cast_value, is_castable};
use crate::identity::refuse_value;
use crate::limits::Limits;
use crate::statement::{Insert, InsertSource, InsertValue};
use crate::types::SqlType;

/// The column that numbers the rows of a query. No identifier holds its first character.
const NUMBER: &str = "\u{1e}number";

/// The plan of an INSERT.
pub(super) fn bind(
    binder: &Binder<'_>,
    insert: &Insert,
    target: &TargetTable,
    parameter_types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let named = named_columns(insert, target)?;
    match &insert.source {
        InsertSource::Defaults => {
            let named = Named { columns: Vec::new(), may_be_fewer: true };
            values(binder, &[Vec::new()], &named, target, &[])
        }
        InsertSource::Values(rows) => values(binder, rows, &named, target, parameter_types),
        InsertSource::Query(query) => {
            let plan = binder.bind_query(query, parameter_types)?;
            from_query(binder, plan, &named, target)
        }
    }
}

/// What a source fills.
struct Named {
    /// Indexes of the columns, in the order of the source.
    columns: Vec<usize>,
    /// Without a list of columns a source may have fewer than the table: they fill the first ones.
    may_be_fewer: bool,
}

impl Named {
    fn check_count(&self, count: usize) -> Result<()> {
        if count > self.columns.len() {
            return Err(Error::syntax("INSERT has more expressions than target columns"));
        }
        if count < self.columns.len() && !self.may_be_fewer {
            return Err(Error::syntax("INSERT has more target columns than expressions"));
        }
        Ok(())
    }
}

fn named_columns(insert: &Insert, target: &TargetTable) -> Result<Named> {
    if insert.columns.is_empty() {
        return Ok(Named { columns: (0..target.columns.len()).collect(), may_be_fewer: true });
    }
    let mut seen = HashSet::new();
    let index_of = |name: &String| {
        let index = target.columns.iter().position(|column| column.name == *name);
        let Some(index) = index else {
            return Err(Error::new(
                ErrorKind::UndefinedColumn,
                format!("column \"{name}\" of relation \"{}\" does not exist", target.name),
            ));
        };
        if !seen.insert(index) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        Ok(index)
    };
    let columns = insert.columns.iter().map(index_of).collect::<Result<_>>()?;
    Ok(Named { columns, may_be_fewer: false })
}

fn from_query(
    binder: &Binder<'_>,
    plan: LogicalPlan,
    named: &Named,
    target: &TargetTable,
) -> Result<LogicalPlan> {
    let sources = plan.schema().columns();
    named.check_count(sources.len())?;
    let source_of = |index: usize| {
        let place = named.columns.iter().position(|named| *named == index);
        place.and_then(|place| sources.get(place))
    };
    let mut columns = target.columns.iter().enumerate();
    let needs_numbers =
        columns.any(|(index, column)| column.identity.is_some() && source_of(index).is_none());
    let (plan, number) = match needs_numbers {
        true => with_row_numbers(plan)?,
        false => (plan, None),
    };
    let schema = Arc::clone(plan.schema());
    let mut outputs = Vec::with_capacity(target.columns.len());
    for (index, column) in target.columns.iter().enumerate() {
        let value = match (source_of(index), column.identity, &number) {
            (Some(source), identity, _) => {
                if identity.is_some_and(|identity| !identity.by_default) {
                    return Err(refuse_value(&column.name));
                }
                check_type(column, &Expr::Column(source.clone()).get_type(&schema)?)?;
                assign(Expr::Column(source.clone()), column.sql_type, &schema, binder.zone())?
            }
            (None, Some(identity), Some(number)) => {
                let first = identity.value(target.next_number, column.sql_type)?;
                let value = counted(first, identity.step, number.clone());
                assign(value, column.sql_type, &schema, binder.zone())?
            }
            (None, _, _) => default_of(binder, column)?,
        };
        outputs.push(value.alias(column.name.clone()));
    }
    Ok(LogicalPlanBuilder::from(plan).project(outputs)?.build()?)
}

/// The rows of a plan in any order, with a column that numbers them from 1.
fn with_row_numbers(plan: LogicalPlan) -> Result<(LogicalPlan, Option<Expr>)> {
    let numbered = LogicalPlanBuilder::from(plan).window([row_number().alias(NUMBER)])?.build()?;
    let number = numbered.schema().columns().pop().map(Expr::Column);
    Ok((numbered, number))
}

/// first + step * (number - 1), or an error if that is no BIGINT.
fn counted(first: i64, step: i64, number: Expr) -> Expr {
    let long = |value| Expr::Literal(ScalarValue::Int64(Some(value)), None);
    let number = datafusion::logical_expr::cast(number, DataType::Int64);
    let before = arithmetic(Arithmetic::Subtract).call(vec![number, long(1)]);
    let distance = arithmetic(Arithmetic::Multiply).call(vec![long(step), before]);
    arithmetic(Arithmetic::Add).call(vec![long(first), distance])
}

/// Fails if no value of the type can be brought to the type of the column.
pub(super) fn check_type(column: &TargetColumn, source: &DataType) -> Result<()> {
    if *source == DataType::Null || is_castable(source, column.sql_type) {
        return Ok(());
    }
    let (name, expected) = (&column.name, column.sql_type.to_string());
    let expected = expected.split('(').next().unwrap_or_default();
    let given = crate::types::type_name(source);
    Err(Error::new(
        ErrorKind::DatatypeMismatch,
        format!("column \"{name}\" is of type {expected} but expression is of type {given}"),
    )
    .with_hint("You will need to rewrite or cast the expression."))
}

/// A value brought to the type of its column.
pub(super) fn assign(
    value: Expr,
    sql_type: SqlType,
    schema: &DFSchema,
    zone: &str,
) -> Result<Expr> {
    let is_string = matches!(sql_type, SqlType::Char(_) | SqlType::VarChar(_));
    if let Expr::Literal(literal, metadata) = &value {
        let cast = cast_value(literal, sql_type, CastMode::Assignment, zone)?;
        return Ok(Expr::Literal(cast, metadata.clone()));
    }
    if value.get_type(schema)? == sql_type.arrow_type() && !is_string {
        return Ok(value);
    }
    Ok(cast_call(value, sql_type, CastMode::Assignment, zone))
}

/// The DEFAULT of a column, NULL without one.
pub(super) fn default_of(binder: &Binder<'_>, column: &TargetColumn) -> Result<Expr> {
    match &column.default {
        Some(text) => {
            let expression = crate::parser::parse_expression(text, &Limits::default())?;
            default_expression(binder, &expression, column.sql_type)
        }
        None => Ok(Expr::Literal(ScalarValue::try_from(&column.sql_type.arrow_type())?, None)),
    }
}

/// A DEFAULT expression as a value of its column.
pub(super) fn default_expression(
    binder: &Binder<'_>,
    expression: &ast::Expr,
    sql_type: SqlType,
) -> Result<Expr> {
    let bound = binder.plan_expressions(std::slice::from_ref(expression), &[])?;
    let Some(value) = bound.into_iter().next() else {
        return Err(Error::new(ErrorKind::Internal, "a default has no value"));
    };
    if value.contains_scalar_subquery() || value.any_column_refs() {
        return Err(Error::not_supported("a subquery or column in DEFAULT"));
    }
    assign(value, sql_type, &DFSchema::empty(), binder.zone())
}

/// VALUES: constants are evaluated here, row by row, without a plan for each.
fn values(
    binder: &Binder<'_>,
    rows: &[Vec<InsertValue>],
    named: &Named,
    target: &TargetTable,
    parameter_types: &[Option<DataType>],
) -> Result<LogicalPlan> {
    let defaults: Vec<Expr> =
        target.columns.iter().map(|column| default_of(binder, column)).collect::<Result<_>>()?;
    let mut bound_rows = Vec::with_capacity(rows.len());
    for (number, row) in (target.next_number..).zip(rows) {
        named.check_count(row.len())?;
        let mut bound = defaults.clone();
        number_row(&mut bound, number, row, &named.columns, target)?;
        for (value, index) in row.iter().zip(&named.columns) {
            let InsertValue::Expression(expression) = value else { continue };
            let sql_type = target.columns[*index].sql_type;
            bound[*index] = match literal(expression) {
                Some(literal) => {
                    let zone = binder.zone();
                    Expr::Literal(cast_value(&literal, sql_type, CastMode::Assignment, zone)?, None)
                }
                None => bind_value(binder, expression, sql_type, parameter_types)?,
            };
        }
        bound_rows.push(bound);
    }
    let names = target.columns.iter().map(|column| column.name.clone());
    if let [row] = bound_rows.as_slice() {
        let outputs: Vec<Expr> =
            row.iter().zip(names).map(|(value, name)| value.clone().alias(name)).collect();
        return Ok(Binder::one_row().project(outputs)?.build()?);
    }
    let plan = LogicalPlanBuilder::values(bound_rows)?.build()?;
    let columns = plan.schema().columns();
    let outputs: Vec<Expr> = columns
        .into_iter()
        .zip(names)
        .map(|(column, name)| Expr::Column(column).alias(name))
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(outputs)?.build()?)
}

/// Gives the identity columns of a row the values that the row does not say.
fn number_row(
    bound: &mut [Expr],
    number: u64,
    row: &[InsertValue],
    named: &[usize],
    target: &TargetTable,
) -> Result<()> {
    for (index, column) in target.columns.iter().enumerate() {
        let Some(identity) = column.identity else { continue };
        let place = named.iter().position(|named| *named == index);
        match place.and_then(|place| row.get(place)) {
            Some(InsertValue::Expression(_)) if identity.by_default => {}
            Some(InsertValue::Expression(_)) => return Err(refuse_value(&column.name)),
            Some(InsertValue::Default) | None => {
                let value = ScalarValue::Int64(Some(identity.value(number, column.sql_type)?));
                let value = value.cast_to(&column.sql_type.arrow_type())?;
                bound[index] = Expr::Literal(value, None);
            }
        }
    }
    Ok(())
}

fn bind_value(
    binder: &Binder<'_>,
    expression: &ast::Expr,
    sql_type: SqlType,
    parameter_types: &[Option<DataType>],
) -> Result<Expr> {
    if let ast::Expr::Value(value) = expression
        && let ast::Value::Placeholder(id) = &value.value
    {
        // A parameter has the type that the client declared, else that of its column.
        let position = id.trim_start_matches('$').parse::<usize>().unwrap_or(0);
        let declared = position.checked_sub(1).and_then(|index| parameter_types.get(index));
        let data_type = declared.cloned().flatten().unwrap_or_else(|| sql_type.arrow_type());
        let field = arrow::datatypes::Field::new("", data_type, true);
        let placeholder = datafusion::logical_expr::expr::Placeholder::new_with_field(
            id.clone(),
            Some(Arc::new(field)),
        );
        let value = Expr::Placeholder(placeholder);
        return assign(value, sql_type, &DFSchema::empty(), binder.zone());
    }
    let bound = binder.plan_expressions(std::slice::from_ref(expression), parameter_types)?;
    match bound.into_iter().next() {
        Some(value) => assign(value, sql_type, &DFSchema::empty(), binder.zone()),
        None => Err(Error::new(ErrorKind::Internal, "a value has no expression")),
    }
}

/// The value of a plain literal.
fn literal(expression: &ast::Expr) -> Option<ScalarValue> {
    match expression {
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Null => Some(ScalarValue::Null),
            ast::Value::Boolean(value) => Some(ScalarValue::Boolean(Some(*value))),
            // The cast reads a number as exactly as its column needs it.
            ast::Value::Number(text, _) => number(text, false),
            ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
                Some(ScalarValue::Utf8View(Some(text.clone())))
            }
            _ => None,
        },
        ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => match expr.as_ref() {
            ast::Expr::Value(value) => match &value.value {
                ast::Value::Number(text, _) => number(text, true),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

fn number(text: &str, negative: bool) -> Option<ScalarValue> {
    let text = if negative { format!("-{text}") } else { text.to_owned() };
    match text.parse::<i64>() {
        Ok(value) => Some(ScalarValue::Int64(Some(value))),
        Err(_) => None,
    }
}

/// The plan of a query with the names and types of the columns of a new table.
pub(super) fn create_as(plan: LogicalPlan, names: &[String]) -> Result<LogicalPlan> {
    let schema = Arc::clone(plan.schema());
    if names.len() > schema.fields().len() {
        return Err(Error::syntax("CREATE TABLE AS specifies too many column names"));
    }
    let mut seen = HashSet::new();
    let mut outputs = Vec::with_capacity(schema.fields().len());
    for (index, (field, column)) in schema.fields().iter().zip(schema.columns()).enumerate() {
        let name = names.get(index).unwrap_or_else(|| field.name()).clone();
        if !seen.insert(name.clone()) {
            return Err(Error::new(
                ErrorKind::DuplicateColumn,
                format!("column \"{name}\" specified more than once"),
            ));
        }
        outputs.push(stored(field, Expr::Column(column))?.alias(name));
    }
    Ok(LogicalPlanBuilder::from(plan).project(outputs)?.build()?)
}

/// A value as a table can hold it. A string without a known length gets the longest VARCHAR, so
/// that nothing is cut.
fn stored(field: &arrow::datatypes::Field, value: Expr) -> Result<Expr> {
    let Some(sql_type) = SqlType::of_field(field) else {
        return Err(Error::not_supported(format!(
            "a column of type {} in a table",
            field.data_type()
        )));
    };
    let has_length = field.metadata().contains_key(crate::types::TYPE_METADATA_KEY);
    Ok(match sql_type {
        SqlType::VarChar(_) if !has_length => {
            let sql_type = SqlType::VarChar(crate::types::VARCHAR_BYTES_MAX);
            cast_call(value, sql_type, CastMode::Explicit, UTC)
        }
        _ if *field.data_type() == sql_type.arrow_type() => value,
        _ => cast_call(value, sql_type, CastMode::Explicit, UTC),
    })
}
