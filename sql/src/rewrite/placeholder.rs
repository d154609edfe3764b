//! Types of parameters that nothing around them decides: `$1::bigint`, `upper($1)`, `select $1`.
//!
//! A parameter has one type, that of the place where it first has one; elsewhere it is cast.

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr::{Placeholder, ScalarFunction};
use datafusion::logical_expr::{Case, Cast, Expr, ExprSchemable, LogicalPlan};
use std::collections::HashMap;
use std::sync::Arc;

use super::comparison::is_string;
use crate::functions::{CastMode, cast_call};
use crate::types::{SqlType, VARCHAR_BYTES_MAX};

/// A field of a parameter: the type only, since lengths of strings differ from place to place.
fn field(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("", data_type, true))
}

/// Gives a parameter that is cast the type of the cast.
pub(super) fn from_casts(plan: LogicalPlan) -> Result<LogicalPlan> {
    if !has_parameters(&plan)? {
        return Ok(plan);
    }
    let typed = plan.transform_up_with_subqueries(|node| {
        node.map_expressions(|expr| {
            expr.transform_up(|expr| match expr {
                Expr::Cast(Cast { expr, field: target }) => {
                    let expr = typed(*expr, target.data_type());
                    Ok(Transformed::yes(Expr::Cast(Cast { expr: Box::new(expr), field: target })))
                }
                Expr::Placeholder(Placeholder { id, field: Some(known) }) => {
                    let known = Some(field(known.data_type().clone()));
                    Ok(Transformed::yes(Expr::Placeholder(Placeholder { id, field: known })))
                }
                other => Ok(Transformed::no(other)),
            })
        })
    })?;
    Ok(typed.data)
}

/// Whether a plan has any parameter.
fn has_parameters(plan: &LogicalPlan) -> Result<bool> {
    let mut found = false;
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            found |= expr.exists(|expr| Ok(matches!(expr, Expr::Placeholder(_))))?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    Ok(found)
}

/// A parameter without a type takes this one.
fn typed(expr: Expr, data_type: &DataType) -> Expr {
    match expr {
        Expr::Placeholder(Placeholder { id, field: None }) if *data_type != DataType::Null => {
            let field = Some(field(data_type.clone()));
            Expr::Placeholder(Placeholder { id, field })
        }
        other => other,
    }
}

/// Gives parameters among the arguments of a function the types that the function wants.
pub(super) fn arguments(function: ScalarFunction, schema: &DFSchema) -> Result<ScalarFunction> {
    let is_untyped = |arg: &Expr| matches!(arg, Expr::Placeholder(Placeholder { field: None, .. }));
    if !function.args.iter().any(is_untyped) {
        return Ok(function);
    }
    let ScalarFunction { func, args } = function;
    let fields =
        args.iter().map(|arg| Ok(arg.to_field(schema)?.1)).collect::<Result<Vec<FieldRef>>>()?;
    let wanted = datafusion::logical_expr::type_coercion::functions::fields_with_udf(
        &fields,
        func.as_ref(),
    )?;
    let args = args.into_iter().zip(wanted).map(|(arg, wanted)| {
        let data_type = match wanted.data_type() {
            text if is_string(text) => DataType::Utf8View,
            other => other.clone(),
        };
        typed(arg, &data_type)
    });
    let args = args.collect();
    Ok(ScalarFunction { func, args })
}

/// Gives parameters among the results of a CASE the type of another result.
pub(super) fn results(mut case: Case, schema: &DFSchema) -> Result<Case> {
    let is_untyped = |arg: &Expr| matches!(arg, Expr::Placeholder(Placeholder { field: None, .. }));
    let results = case.when_then_expr.iter().map(|(_, then)| then).chain(&case.else_expr);
    if !results.clone().any(|result| is_untyped(result)) {
        return Ok(case);
    }
    let mut known = DataType::Utf8View;
    for result in results.filter(|result| !is_untyped(result)) {
        let data_type = result.get_type(schema)?;
        if data_type != DataType::Null {
            known = if is_string(&data_type) { DataType::Utf8View } else { data_type };
            break;
        }
    }
    for result in case.when_then_expr.iter_mut().map(|(_, then)| then).chain(&mut case.else_expr) {
        **result = typed(std::mem::take(result.as_mut()), &known);
    }
    Ok(case)
}

/// Makes the occurrences of each parameter agree; one that is selected as it is is a string.
pub(super) fn finish(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    if !has_parameters(&plan)? {
        return Ok(plan);
    }
    let plan = text_outputs(plan)?;
    let mut types: HashMap<String, DataType> = HashMap::new();
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|expr| {
                if let Expr::Placeholder(Placeholder { id, field: Some(field) }) = expr {
                    types.entry(id.clone()).or_insert_with(|| field.data_type().clone());
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let agreed = plan.transform_up_with_subqueries(|node| {
        let is_limit = matches!(node, LogicalPlan::Limit(_));
        let agreed = node.map_expressions(|expr| {
            expr.transform_up(|expr| {
                if is_limit {
                    return Ok(Transformed::yes(typed(expr, &DataType::Int64)));
                }
                Ok(Transformed::yes(agree(expr, &types, zone)))
            })
        })?;
        Ok(Transformed::yes(agreed.data.recompute_schema()?))
    })?;
    Ok(agreed.data)
}

fn agree(expr: Expr, types: &HashMap<String, DataType>, zone: &str) -> Expr {
    let Expr::Placeholder(Placeholder { id, field: own }) = expr else { return expr };
    let Some(data_type) = types.get(&id).cloned() else {
        return Expr::Placeholder(Placeholder { id, field: own });
    };
    let wanted = own.map(|field| field.data_type().clone());
    let parameter = Expr::Placeholder(Placeholder { id, field: Some(field(data_type.clone())) });
    match wanted {
        Some(wanted) if wanted != data_type => match SqlType::from_arrow(&wanted) {
            Some(SqlType::VarChar(_)) => {
                let text = SqlType::VarChar(VARCHAR_BYTES_MAX);
                cast_call(parameter, text, CastMode::Explicit, zone)
            }
            Some(sql_type) => cast_call(parameter, sql_type, CastMode::Explicit, zone),
            None => parameter,
        },
        _ => parameter,
    }
}

/// The outermost SELECT list.
fn text_outputs(plan: LogicalPlan) -> Result<LogicalPlan> {
    match plan {
        LogicalPlan::Projection(_) => {
            let typed = plan.map_expressions(|expr| {
                Ok(Transformed::yes(match expr {
                    Expr::Alias(mut alias) => {
                        alias.expr = Box::new(typed(*alias.expr, &DataType::Utf8View));
                        Expr::Alias(alias)
                    }
                    other => typed(other, &DataType::Utf8View),
                }))
            })?;
            typed.data.recompute_schema()
        }
        other => Ok(other),
    }
}
