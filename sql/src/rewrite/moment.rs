//! Functions of dates on TIMESTAMPTZ: they see the local time in the zone of the session.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};

use super::Context;
use crate::functions::{
    CastMode, DATE_PART, DATE_TRUNC, EXTRACT, TO_CHAR, TO_TIMESTAMP, UTC, cast_call, own,
    part_microseconds,
};
use crate::types::SqlType;

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;

/// The call with its moments in the zone of the session.
pub(super) fn in_zone(
    function: ScalarFunction,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<ScalarFunction> {
    if context.zone == UTC {
        return Ok(function);
    }
    let ScalarFunction { mut func, mut args } = function;
    match func.name() {
        TO_CHAR if args.len() == 2 => args.push(lit(context.zone)),
        TO_TIMESTAMP if args.len() == 2 => args.extend([lit(false), lit(context.zone)]),
        TO_TIMESTAMP if args.len() == 3 => args.push(lit(context.zone)),
        DATE_TRUNC | DATE_PART | EXTRACT | "datediff" | "dateadd" | "last_day" | "add_months"
        | "months_between" | "next_day"
            if !is_absolute(func.name(), &args) =>
        {
            let mut was_zoned = false;
            for argument in &mut args {
                if is_zoned(&argument.get_type(schema)?) {
                    was_zoned = true;
                    *argument = local(std::mem::take(argument), context);
                }
            }
            // Of TIMESTAMPTZ, EXTRACT gives what DATE_PART does.
            if was_zoned && func.name() == EXTRACT {
                func = own(DATE_PART);
            }
        }
        _ => {}
    }
    Ok(ScalarFunction { func, args })
}

fn local(moment: Expr, context: &Context<'_>) -> Expr {
    cast_call(moment, SqlType::Timestamp, CastMode::Explicit, context.zone)
}

/// DATE_TRUNC to an hour or less takes away what the local clock shows beyond the unit: back from
/// the local time alone, an hour that comes twice would lead to the other one.
pub(super) fn truncated(
    function: &ScalarFunction,
    schema: &DFSchema,
    context: &Context<'_>,
) -> Result<Option<Expr>> {
    let (DATE_TRUNC, [part, moment]) = (function.func.name(), function.args.as_slice()) else {
        return Ok(None);
    };
    let is_short = unit(part).is_some_and(|unit| unit <= HOUR);
    if context.zone == UTC || !is_short || !is_zoned(&moment.get_type(schema)?) {
        return Ok(None);
    }
    let micros = || lit("microsecond");
    let shown = local(moment.clone(), context);
    let start = function.func.call(vec![part.clone(), shown.clone()]);
    let back = own("datediff").call(vec![micros(), shown, start]);
    Ok(Some(own("dateadd").call(vec![micros(), back, moment.clone()])))
}

/// Whether the result of the call is a moment again, that was made local by [`in_zone`].
pub(super) fn gives_moment(function: &ScalarFunction, schema: &DFSchema) -> Result<bool> {
    let name = function.func.name();
    let keeps = matches!(name, DATE_TRUNC | "dateadd") && !is_absolute(name, &function.args);
    match function.args.last() {
        Some(last) if keeps => Ok(is_zoned(&last.get_type(schema)?)),
        _ => Ok(false),
    }
}

fn is_zoned(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(_, Some(_)))
}

/// The length of the part that a call names, if it always has the same.
fn unit(part: &Expr) -> Option<i64> {
    match part {
        Expr::Literal(ScalarValue::Utf8View(Some(part)) | ScalarValue::Utf8(Some(part)), _) => {
            part_microseconds(part)
        }
        _ => None,
    }
}

/// Whether the call has the same answer in every zone: the epoch; adding what is the same time on
/// every clock; counting minutes, which begin at the same time everywhere.
fn is_absolute(name: &str, args: &[Expr]) -> bool {
    let Some(part) = args.first() else { return false };
    match name {
        DATE_PART | EXTRACT => is_epoch(part),
        "dateadd" => unit(part).is_some_and(|unit| unit <= HOUR),
        "datediff" => unit(part).is_some_and(|unit| unit <= MINUTE),
        _ => false,
    }
}

fn is_epoch(part: &Expr) -> bool {
    match part {
        Expr::Literal(ScalarValue::Utf8View(Some(part)) | ScalarValue::Utf8(Some(part)), _) => {
            part.trim_matches('\'').eq_ignore_ascii_case("epoch")
        }
        _ => false,
    }
}
