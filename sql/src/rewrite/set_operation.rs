//! The types of UNION, INTERSECT and EXCEPT: columns of one place must be of one family.

use arrow::datatypes::DataType;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::{JoinType, NullEquality, Result};
use datafusion::logical_expr::{
    Cast, Expr, ExprSchemable, Join, LogicalPlan, LogicalPlanBuilder, Union,
};
use std::collections::HashMap;
use std::sync::Arc;

use super::Context;
use super::comparison::{are_comparable, is_string};
use crate::error::{Error, ErrorKind};
use crate::functions::{CastMode, cast_call};
use crate::types::{BLANKS_METADATA_KEY, SqlType, TYPE_METADATA_KEY, VARCHAR_BYTES_MAX, type_name};

/// Fails if the columns of a set operation do not go together.
pub(super) fn check(plan: LogicalPlan, context: &Context<'_>) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Union(union) => check_union(union, context),
        LogicalPlan::Join(join) => {
            check_join(&join)?;
            Ok(LogicalPlan::Join(join))
        }
        other => Ok(other),
    }
}

/// Both terms of a recursive query have the types of its work table, which the recursive term was
/// planned with, also where literals have become narrower since. What their fields say beside the
/// type must be the same too: a string is as long as can be and may end with blanks.
pub(super) fn keep_work_table(plan: LogicalPlan) -> Result<LogicalPlan> {
    let LogicalPlan::RecursiveQuery(mut query) = plan else { return Ok(plan) };
    let kept = |term: &Arc<LogicalPlan>| -> Result<Arc<LogicalPlan>> {
        let columns = term.schema().columns().into_iter().zip(query.schema.fields());
        let columns: Vec<Expr> = columns
            .map(|(column, kept)| {
                let (relation, name) = (column.relation.clone(), column.name.clone());
                Expr::Cast(Cast::new(Box::new(Expr::Column(column)), kept.data_type().clone()))
                    .alias_qualified_with_metadata(relation, name, Some(neutral(kept.data_type())))
            })
            .collect();
        Ok(Arc::new(LogicalPlanBuilder::from(Arc::clone(term)).project(columns)?.build()?))
    };
    let (static_term, recursive_term) = (kept(&query.static_term)?, kept(&query.recursive_term)?);
    query.static_term = static_term;
    query.recursive_term = recursive_term;
    Ok(LogicalPlan::RecursiveQuery(query))
}

/// What both terms of a recursive query say of a column of a type.
fn neutral(data_type: &DataType) -> FieldMetadata {
    let sql_type = match SqlType::from_arrow(data_type) {
        Some(SqlType::VarChar(_)) => SqlType::VarChar(VARCHAR_BYTES_MAX).to_string(),
        Some(sql_type) => sql_type.to_string(),
        None => data_type.to_string(),
    };
    FieldMetadata::from(HashMap::from([
        (TYPE_METADATA_KEY.to_owned(), sql_type),
        (BLANKS_METADATA_KEY.to_owned(), String::new()),
    ]))
}

fn mismatch(operation: &str, left: &DataType, right: &DataType) -> Error {
    let (left, right) = (type_name(left), type_name(right));
    Error::new(
        ErrorKind::DatatypeMismatch,
        format!("{operation} types {left} and {right} cannot be matched"),
    )
}

/// INTERSECT and EXCEPT are joins in which NULL equals NULL.
fn check_join(join: &Join) -> Result<()> {
    if join.null_equality != NullEquality::NullEqualsNull {
        return Ok(());
    }
    let operation = match join.join_type {
        JoinType::LeftSemi => "INTERSECT",
        JoinType::LeftAnti => "EXCEPT",
        _ => return Ok(()),
    };
    for (left, right) in &join.on {
        let types = (left.get_type(join.left.schema())?, right.get_type(join.right.schema())?);
        if !goes_with(&types.0, &types.1) {
            return Err(mismatch(operation, &types.0, &types.1).into());
        }
    }
    Ok(())
}

/// Unlike in a comparison, a string does not become another type.
fn goes_with(left: &DataType, right: &DataType) -> bool {
    let is_null = |data_type: &DataType| *data_type == DataType::Null;
    let strings_agree = is_string(left) == is_string(right) || is_null(left) || is_null(right);
    strings_agree && are_comparable(left, right)
}

fn check_union(union: Union, context: &Context<'_>) -> Result<LogicalPlan> {
    let Some(first) = union.inputs.first() else { return Ok(LogicalPlan::Union(union)) };
    let width = first.schema().fields().len();
    let types_of = |index: usize| -> Vec<DataType> {
        union.inputs.iter().map(|input| input.schema().field(index).data_type().clone()).collect()
    };
    // For each column the inputs where it is a string literal and must become another type.
    let mut casts: Vec<Vec<Option<SqlType>>> = vec![vec![None; union.inputs.len()]; width];
    for (index, casts) in casts.iter_mut().enumerate() {
        let types = types_of(index);
        let literals: Vec<bool> =
            union.inputs.iter().map(|input| is_string_literal(input, index)).collect();
        let known = types
            .iter()
            .zip(&literals)
            .find(|(data_type, literal)| **data_type != DataType::Null && !**literal)
            .map(|(data_type, _)| data_type.clone());
        let Some(known) = known else { continue };
        for ((data_type, literal), cast) in types.iter().zip(&literals).zip(casts) {
            if goes_with(&known, data_type) {
                continue;
            }
            match SqlType::from_arrow(&known) {
                Some(sql_type) if *literal => *cast = Some(sql_type),
                _ => return Err(mismatch("UNION", &known, data_type).into()),
            }
        }
    }
    if casts.iter().flatten().all(Option::is_none) {
        return Ok(LogicalPlan::Union(union));
    }
    let inputs = union
        .inputs
        .into_iter()
        .enumerate()
        .map(|(position, input)| {
            let casts: Vec<Option<SqlType>> = casts.iter().map(|column| column[position]).collect();
            cast_columns(input, &casts, context)
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?))
}

fn is_string_literal(plan: &LogicalPlan, index: usize) -> bool {
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.get(index).is_some_and(|expr| {
            matches!(expr.clone().unalias(), Expr::Literal(value, _) if is_string(&value.data_type()))
        }),
        _ => false,
    }
}

fn cast_columns(
    input: Arc<LogicalPlan>,
    casts: &[Option<SqlType>],
    context: &Context<'_>,
) -> Result<Arc<LogicalPlan>> {
    if casts.iter().all(Option::is_none) {
        return Ok(input);
    }
    let columns = input.schema().columns().into_iter().zip(casts).map(|(column, cast)| {
        let Some(sql_type) = cast else { return Expr::Column(column) };
        let (relation, name) = (column.relation.clone(), column.name.clone());
        cast_call(Expr::Column(column), *sql_type, CastMode::Explicit, context.zone)
            .alias_qualified(relation, name)
    });
    let columns: Vec<Expr> = columns.collect();
    Ok(Arc::new(LogicalPlanBuilder::from(input).project(columns)?.build()?))
}
