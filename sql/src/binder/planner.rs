//! Hooks of DataFusion's planner: arithmetic becomes our checked functions, type names become our
//! types.

use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, TypePlanner};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::{self, BinaryOperator};
use std::sync::Arc;

use crate::functions::{Arithmetic, CastMode, UTC, arithmetic, cast_value, concatenate, extract};
use crate::types::SqlType;

/// Plans + - * / % as functions that never wrap, and || as one that has a limit.
#[derive(Debug)]
pub(super) struct CheckedArithmetic;

impl ExprPlanner for CheckedArithmetic {
    fn plan_binary_op(
        &self,
        expr: RawBinaryExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawBinaryExpr>> {
        let operation = match expr.op {
            BinaryOperator::Plus => Arithmetic::Add,
            BinaryOperator::Minus => Arithmetic::Subtract,
            BinaryOperator::Multiply => Arithmetic::Multiply,
            BinaryOperator::Divide => Arithmetic::Divide,
            BinaryOperator::Modulo => Arithmetic::Modulo,
            BinaryOperator::StringConcat => {
                return Ok(PlannerResult::Planned(concatenate().call(vec![expr.left, expr.right])));
            }
            _ => return Ok(PlannerResult::Original(boolean_literal(expr, schema)?)),
        };
        let RawBinaryExpr { left, right, .. } = expr;
        let (left, right) = type_placeholders(left, right, schema)?;
        let arguments = vec![wide_literal(left), wide_literal(right)];
        Ok(PlannerResult::Planned(arithmetic(operation).call(arguments)))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(extract().call(args)))
    }
}

/// A string literal beside a boolean is a boolean: the planner itself compares no such types.
fn boolean_literal(expr: RawBinaryExpr, schema: &DFSchema) -> Result<RawBinaryExpr> {
    let RawBinaryExpr { op, left, right } = expr;
    let is_string = |side: &Expr| {
        matches!(
            side,
            Expr::Literal(ScalarValue::Utf8(Some(_)) | ScalarValue::Utf8View(Some(_)), _)
        )
    };
    let typed = |side: Expr, other: &Expr| -> Result<Expr> {
        match &side {
            Expr::Literal(text, metadata)
                if is_string(&side) && other.get_type(schema)? == DataType::Boolean =>
            {
                let value = cast_value(text, SqlType::Boolean, CastMode::Explicit, UTC)?;
                Ok(Expr::Literal(value, metadata.clone()))
            }
            _ => Ok(side),
        }
    };
    if !is_string(&left) && !is_string(&right) {
        return Ok(RawBinaryExpr { op, left, right });
    }
    let left = typed(left, &right)?;
    let right = typed(right, &left)?;
    Ok(RawBinaryExpr { op, left, right })
}

/// A parameter without a type takes that of the other side.
fn type_placeholders(left: Expr, right: Expr, schema: &DFSchema) -> Result<(Expr, Expr)> {
    let left_untyped = is_untyped(&left);
    let right_untyped = is_untyped(&right);
    Ok(match (left_untyped, right_untyped) {
        (true, false) => {
            let data_type = right.get_type(schema)?;
            (with_type(left, data_type), right)
        }
        (false, true) => {
            let data_type = left.get_type(schema)?;
            (left, with_type(right, data_type))
        }
        _ => (left, right),
    })
}

fn is_untyped(expr: &Expr) -> bool {
    matches!(expr, Expr::Placeholder(placeholder) if placeholder.field.is_none())
}

fn with_type(expr: Expr, data_type: DataType) -> Expr {
    match expr {
        Expr::Placeholder(mut placeholder) => {
            placeholder.field = Some(Arc::new(Field::new("", data_type, true)));
            Expr::Placeholder(placeholder)
        }
        other => other,
    }
}

/// Integers beyond BIGINT are decimals.
fn wide_literal(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::UInt64(Some(value)), metadata) => {
            Expr::Literal(ScalarValue::Decimal128(Some(i128::from(value)), 20, 0), metadata)
        }
        other => other,
    }
}

/// Plans type names as ours, with their modifiers in the metadata of the field, from where
/// [`crate::rewrite::finish`] takes them.
#[derive(Debug)]
pub(super) struct RedshiftTypes;

impl TypePlanner for RedshiftTypes {
    fn plan_type_field(&self, sql_type: &ast::DataType) -> Result<Option<FieldRef>> {
        if let ast::DataType::Interval { .. } = sql_type {
            return Ok(None);
        }
        let sql_type = SqlType::from_cast_ast(sql_type)?;
        Ok(Some(Arc::new(sql_type.field("", true))))
    }
}
