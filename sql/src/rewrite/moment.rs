//! Functions of dates on TIMESTAMPTZ: they see the local time in the zone of the session.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

use super::Context;
use crate::functions::{CastMode, TO_CHAR, TO_TIMESTAMP, UTC, cast_call};
use crate::types::SqlType;

/// The call with its moments in the zone of the session.
pub(super) fn in_zone(
    function: ScalarFunction,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<ScalarFunction> {
    if context.zone == UTC {
        return Ok(function);
    }
    let ScalarFunction { func, mut args } = function;
    match func.name() {
        TO_CHAR if args.len() == 2 => args.push(lit(context.zone)),
        TO_TIMESTAMP if args.len() == 2 => args.extend([lit(false), lit(context.zone)]),
        TO_TIMESTAMP if args.len() == 3 => args.push(lit(context.zone)),
        "date_trunc" | "date_part" | "extract" | "datediff" | "dateadd" | "last_day"
        | "add_months" | "months_between" | "next_day"
            if !is_absolute(&args) =>
        {
            for argument in &mut args {
                if is_zoned(&argument.get_type(schema)?) {
                    let moment = std::mem::take(argument);
                    *argument =
                        cast_call(moment, SqlType::Timestamp, CastMode::Explicit, context.zone);
                }
            }
        }
        _ => {}
    }
    Ok(ScalarFunction { func, args })
}

/// Whether the result of the call is a moment again, that was made local by [`in_zone`].
pub(super) fn gives_moment(function: &ScalarFunction, schema: &DFSchema) -> Result<bool> {
    let keeps = matches!(function.func.name(), "date_trunc" | "dateadd");
    match function.args.last() {
        Some(last) if keeps => Ok(is_zoned(&last.get_type(schema)?)),
        _ => Ok(false),
    }
}

fn is_zoned(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

/// Parts that are the same in every zone.
fn is_absolute(args: &[Expr]) -> bool {
    let Some(Expr::Literal(ScalarValue::Utf8View(Some(part)) | ScalarValue::Utf8(Some(part)), _)) =
        args.first()
    else {
        return false;
    };
    part == "epoch"
}
