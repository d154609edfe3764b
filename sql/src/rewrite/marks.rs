//! Which columns of a plan are known to have no blanks at the end of their strings.
//!
//! Tables mark such columns in their schema. DataFusion carries marks along as metadata, also to
//! columns that get values from elsewhere: of a UNION one marked term is enough, LAG takes the mark
//! of its argument and not of its default. So a mark counts only at its table; from there it is
//! followed through what passes values on as they are.

use arrow::datatypes::{Field, FieldRef};
use datafusion::common::{Column, DFSchema, JoinType, Result, ScalarValue, TableReference};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Cast, Distinct, Expr, ExprSchemable, LogicalPlan, TryCast};
use std::sync::Arc;

use super::comparison::is_string;
use crate::functions::{BLANK_STRIPPED, CAST};
use crate::types::{BLANKS_METADATA_KEY, NO_BLANKS, with_blanks, without_blanks};

/// Whether the schema marks the column.
pub(super) fn has_no_blanks(field: &Field) -> bool {
    field.metadata().get(BLANKS_METADATA_KEY).is_some_and(|value| value == NO_BLANKS)
}

/// The schema of a plan with marks at the columns that are known to have no blanks, and only there.
pub(super) fn schema(plan: &LogicalPlan) -> Result<DFSchema> {
    let schema = plan.schema();
    if !schema.fields().iter().any(|field| is_string(field.data_type())) {
        return Ok(schema.as_ref().clone());
    }
    let fields = schema.iter().zip(known(plan)?).map(|((qualifier, field), is_known)| {
        let field = match (is_known, has_no_blanks(field)) {
            (true, false) if is_string(field.data_type()) => {
                Arc::new(without_blanks(field.as_ref().clone()))
            }
            (false, true) => Arc::new(with_blanks(field.as_ref().clone())),
            _ => Arc::clone(field),
        };
        (qualifier.cloned(), field)
    });
    let fields: Vec<(Option<TableReference>, FieldRef)> = fields.collect();
    DFSchema::new_with_metadata(fields, schema.metadata().clone())
}

/// Whether the strings of an expression have no blanks at their end, by a schema from [`schema`].
pub(super) fn is_without_blanks(expr: &Expr, schema: &DFSchema) -> Result<bool> {
    let of_column = |column: &Column| {
        schema.maybe_index_of_column(column).map(|i| has_no_blanks(schema.field(i)))
    };
    follow(expr, schema, &|column| of_column(column).unwrap_or(false))
}

/// The same over columns that the caller judges.
fn follow(expr: &Expr, schema: &DFSchema, of_column: &dyn Fn(&Column) -> bool) -> Result<bool> {
    Ok(match expr {
        Expr::Column(column) => of_column(column),
        Expr::Alias(alias) => follow(&alias.expr, schema, of_column)?,
        Expr::Literal(ScalarValue::Utf8View(text) | ScalarValue::Utf8(text), _) => {
            text.as_ref().is_none_or(|text| !text.ends_with(' '))
        }
        // Only those between kinds of strings come here: all others have their own function.
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            is_string(&expr.get_type(schema)?) && follow(expr, schema, of_column)?
        }
        Expr::ScalarFunction(ScalarFunction { func, .. })
            if matches!(func.name(), BLANK_STRIPPED | CAST) =>
        {
            has_no_blanks(expr.to_field(schema)?.1.as_ref())
        }
        _ => false,
    })
}

/// For each column of a plan, whether its strings have no blanks at their end.
fn known(plan: &LogicalPlan) -> Result<Vec<bool>> {
    let width = plan.schema().fields().len();
    Ok(match plan {
        LogicalPlan::TableScan(scan) => {
            scan.projected_schema.fields().iter().map(|field| has_no_blanks(field)).collect()
        }
        LogicalPlan::Projection(projection) => {
            expressions(projection.expr.iter(), &projection.input)?
        }
        LogicalPlan::Filter(filter) => known(&filter.input)?,
        LogicalPlan::Sort(sort) => known(&sort.input)?,
        LogicalPlan::Limit(limit) => known(&limit.input)?,
        LogicalPlan::SubqueryAlias(alias) => known(&alias.input)?,
        LogicalPlan::Distinct(Distinct::All(input)) => known(input)?,
        LogicalPlan::Aggregate(aggregate) => {
            let groups = grouping_set_to_exprlist(&aggregate.group_expr)?;
            padded(expressions(groups, &aggregate.input)?, width)
        }
        LogicalPlan::Window(window) => padded(known(&window.input)?, width),
        LogicalPlan::Join(join) => match join.join_type {
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                padded(known(&join.left)?, width)
            }
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                padded(known(&join.right)?, width)
            }
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                let mut columns = known(&join.left)?;
                columns.extend(known(&join.right)?);
                padded(columns, width)
            }
        },
        LogicalPlan::Union(union) => {
            let mut all = vec![true; width];
            for input in &union.inputs {
                let own = padded(known(input)?, width);
                all.iter_mut().zip(own).for_each(|(all, own)| *all &= own);
            }
            all
        }
        // Also recursive queries, whose own rows come back.
        _ => vec![false; width],
    })
}

fn expressions<'a>(
    list: impl IntoIterator<Item = &'a Expr>,
    input: &LogicalPlan,
) -> Result<Vec<bool>> {
    let (schema, columns) = (input.schema(), known(input)?);
    let of_column = |column: &Column| {
        let index = schema.maybe_index_of_column(column);
        index.and_then(|index| columns.get(index)).copied().unwrap_or(false)
    };
    list.into_iter().map(|expr| follow(expr, schema, &of_column)).collect()
}

/// Columns that a node adds to those of its input are not known.
fn padded(mut columns: Vec<bool>, width: usize) -> Vec<bool> {
    columns.resize(width, false);
    columns
}
