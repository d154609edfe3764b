//! Function calls that are not functions of the plan: values of the session, conditional
//! expressions under other names, and calls whose spelling DataFusion does not know.

use chrono::{DateTime, SubsecRound, Utc};
use datafusion::sql::sqlparser::ast::{
    self, BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident,
};

use super::prepare::{call, cast, null, number, string};
use crate::catalog::SessionValues;
use crate::error::{Error, ErrorKind, Result};
use crate::functions::{CONTINUOUS, DISCRETE, TIMEZONE};

/// What VERSION() says; drivers parse it. The last word is Redshift's release.
pub const VERSION: &str = "PostgreSQL 8.0.2 on i686-pc-linux-gnu, compiled by GCC gcc (GCC) 3.4.2 20041017 (Red Hat 3.4.2-6.fc3), Redshift 1.0.77467";

/// Names that stand for a value without parentheses.
const KEYWORDS: [&str; 9] = [
    "sysdate",
    "current_date",
    "current_timestamp",
    "current_time",
    "localtime",
    "localtimestamp",
    "current_user",
    "session_user",
    "user",
];

/// Whether an identifier is one of the names that stand for a value.
pub(super) fn is_keyword(name: &Ident) -> bool {
    name.quote_style.is_none() && KEYWORDS.contains(&name.value.as_str())
}

/// The value of a name without parentheses.
pub(super) fn keyword(name: &str, session: &SessionValues) -> Option<Expr> {
    if KEYWORDS.contains(&name) { session_value(name, session) } else { None }
}

/// A replacement for a call, if it needs one.
pub(super) fn function(function: &mut Function, session: &SessionValues) -> Result<Option<Expr>> {
    let name = simple_name(function)?;
    if function.filter.is_some() {
        return Err(Error::not_supported("FILTER clause"));
    }
    if matches!(name.as_str(), "median" | CONTINUOUS | DISCRETE) {
        percentile(&name, function)?;
        return Ok(None);
    }
    if name == "ratio_to_report" && function.over.is_some() {
        return ratio_to_report(function).map(Some);
    }
    if function.over.is_some() {
        return Ok(None);
    }
    if let Some(value) = session_value(&name, session) {
        return Ok(Some(value));
    }
    if name == "listagg" {
        listagg(function);
        return Ok(None);
    }
    let replacement = match name.as_str() {
        "current_setting" => Some(current_setting(&arguments(function)?, session)?),
        "nvl" => Some(call("coalesce", arguments(function)?)),
        "nvl2" => Some(nvl2(arguments(function)?)?),
        "decode" => Some(decode(arguments(function)?)?),
        "charindex" => {
            let [part, whole] = exactly(&name, arguments(function)?)?;
            Some(call("strpos", vec![whole, part]))
        }
        "concat" => {
            let [left, right] = exactly(&name, arguments(function)?)?;
            Some(binary(left, BinaryOperator::StringConcat, right))
        }
        "mod" => {
            let [left, right] = exactly(&name, arguments(function)?)?;
            Some(binary(left, BinaryOperator::Modulo, right))
        }
        "pow" | "power" | "dpow" => {
            let [base, exponent] = exactly(&name, arguments(function)?)?;
            Some(call("power", vec![double(base), double(exponent)]))
        }
        "dlog1" | "dexp" | "dlog10" => {
            let [argument] = exactly(&name, arguments(function)?)?;
            let target = match name.as_str() {
                "dlog1" => "ln",
                "dexp" => "exp",
                _ => "log10",
            };
            Some(call(target, vec![argument]))
        }
        "nullif" => Some(nullif(arguments(function)?)?),
        "convert_timezone" => Some(convert_timezone(arguments(function)?)?),
        "dateadd" | "date_add" => Some(with_part("dateadd", arguments(function)?)?),
        "datediff" | "date_diff" => Some(with_part("datediff", arguments(function)?)?),
        "date_part" | "pgdate_part" => Some(with_part("date_part", arguments(function)?)?),
        _ => None,
    };
    Ok(replacement)
}

fn simple_name(function: &mut Function) -> Result<String> {
    let parts: Vec<String> = function.name.0.iter().map(ToString::to_string).collect();
    match parts.as_slice() {
        [name] => Ok(name.clone()),
        [schema, name] if schema == "pg_catalog" => {
            let name = name.clone();
            function.name = ast::ObjectName::from(vec![Ident::new(name.clone())]);
            Ok(name)
        }
        _ => Err(Error::not_supported("a function name with a schema")),
    }
}

fn session_value(name: &str, session: &SessionValues) -> Option<Expr> {
    Some(match name {
        "getdate" => local(session.statement_start.trunc_subsecs(0)),
        "sysdate" | "localtimestamp" => local(session.now),
        "now" | "current_timestamp" => moment(session.now),
        "current_date" => cast(moment(session.now), ast::DataType::Date),
        "localtime" => cast(local(session.now), ast::DataType::Time(None, ast::TimezoneInfo::None)),
        "current_user" | "user" => string(&session.current_user),
        "session_user" => string(&session.session_user),
        "current_database" => string(&session.database),
        "current_schema" => session.search_path.first().map_or_else(null, |schema| string(schema)),
        "pg_backend_pid" => number(&session.backend_pid.to_string()),
        "version" => string(VERSION),
        _ => return None,
    })
}

/// A TIMESTAMPTZ. Casts of it to other types see the clock of the session's time zone.
fn moment(time: DateTime<Utc>) -> Expr {
    cast(
        string(&format!("{}+00", time.format("%Y-%m-%d %H:%M:%S%.6f"))),
        ast::DataType::Timestamp(None, ast::TimezoneInfo::Tz),
    )
}

/// What the clock of the session's time zone shows, as a TIMESTAMP.
fn local(time: DateTime<Utc>) -> Expr {
    cast(moment(time), ast::DataType::Timestamp(None, ast::TimezoneInfo::None))
}

fn current_setting(arguments: &[Expr], session: &SessionValues) -> Result<Expr> {
    let Some(name) = arguments.first().and_then(literal_text) else {
        return Err(Error::not_supported("CURRENT_SETTING of an expression"));
    };
    match session.settings.get(&name.to_lowercase()) {
        Some(value) => Ok(string(value)),
        None if arguments.len() > 1 => Ok(null()),
        None => Err(Error::new(
            ErrorKind::InvalidParameterValue,
            format!("unrecognized configuration parameter \"{name}\""),
        )),
    }
}

/// NVL2(e, a, b): a if e is not null, else b.
fn nvl2(arguments: Vec<Expr>) -> Result<Expr> {
    let [tested, not_null, otherwise] = exactly("nvl2", arguments)?;
    let condition = Expr::IsNotNull(Box::new(tested));
    Ok(case(vec![(condition, not_null)], Some(otherwise)))
}

/// NULLIF(a, b): NULL if they are equal, else a.
fn nullif(arguments: Vec<Expr>) -> Result<Expr> {
    let [value, other] = exactly("nullif", arguments)?;
    let condition = binary(value.clone(), BinaryOperator::Eq, other);
    Ok(case(vec![(condition, null())], Some(value)))
}

/// CONVERT_TIMEZONE([source,] target, timestamp); the source is UTC by default.
fn convert_timezone(mut arguments: Vec<Expr>) -> Result<Expr> {
    if arguments.len() == 2 {
        arguments.insert(0, string("UTC"));
    }
    let [source, target, moment] = exactly("convert_timezone", arguments)?;
    // A moment with a zone of its own is one whatever the source says.
    let local = cast(moment, ast::DataType::Timestamp(None, ast::TimezoneInfo::None));
    Ok(call(TIMEZONE, vec![target, call(TIMEZONE, vec![source, local])]))
}

/// DECODE(e, search, result, ... [, default]): NULL equals NULL.
fn decode(arguments: Vec<Expr>) -> Result<Expr> {
    let mut rest = arguments.into_iter();
    let Some(tested) = rest.next() else { return Err(wrong_arguments("decode")) };
    let mut branches = Vec::new();
    let mut default = None;
    while let Some(search) = rest.next() {
        match rest.next() {
            Some(result) => branches.push((decode_condition(&tested, search), result)),
            None => default = Some(search),
        }
    }
    if branches.is_empty() {
        return Err(wrong_arguments("decode"));
    }
    Ok(case(branches, default))
}

fn decode_condition(tested: &Expr, search: Expr) -> Expr {
    match &search {
        Expr::Value(value) if value.value == ast::Value::Null => {
            Expr::IsNull(Box::new(tested.clone()))
        }
        Expr::Value(_) => binary(tested.clone(), BinaryOperator::Eq, search),
        _ => Expr::IsNotDistinctFrom(Box::new(tested.clone()), Box::new(search)),
    }
}

fn case(branches: Vec<(Expr, Expr)>, otherwise: Option<Expr>) -> Expr {
    let conditions = branches
        .into_iter()
        .map(|(condition, result)| ast::CaseWhen { condition, result })
        .collect();
    Expr::Case {
        case_token: ast::helpers::attached_token::AttachedToken::empty(),
        end_token: ast::helpers::attached_token::AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: otherwise.map(Box::new),
    }
}

/// The first argument is a date part, written bare or in quotes.
fn with_part(name: &str, mut arguments: Vec<Expr>) -> Result<Expr> {
    let Some(first) = arguments.first_mut() else { return Err(wrong_arguments(name)) };
    let part = match &*first {
        Expr::Identifier(part) => Some(part.value.clone()),
        other => literal_text(other),
    };
    match part {
        Some(part) => {
            *first = string(&part.to_lowercase());
            Ok(call(name, arguments))
        }
        None => Err(Error::syntax(format!("the first argument of {name} must be a date part"))),
    }
}

/// LISTAGG(e [, delimiter]): NULLs are ignored, the delimiter is empty by default.
fn listagg(function: &mut Function) {
    if let FunctionArguments::List(list) = &mut function.args
        && list.args.len() == 1
    {
        list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(string(""))));
    }
    if let FunctionArguments::List(list) = &mut function.args
        && !function.within_group.is_empty()
    {
        let order = std::mem::take(&mut function.within_group);
        list.clauses.push(ast::FunctionArgumentClause::OrderBy(order));
    }
}

/// MEDIAN(e) and PERCENTILE_x(fraction) WITHIN GROUP (ORDER BY e) as calls of (e, fraction).
fn percentile(name: &str, function: &mut Function) -> Result<()> {
    let (value, fraction, target) = if name == "median" {
        let [value] = exactly(name, arguments(function)?)?;
        (value, number("0.5"), CONTINUOUS)
    } else {
        let [fraction] = exactly(name, arguments(function)?)?;
        let order = std::mem::take(&mut function.within_group);
        let Ok([order]) = <[ast::OrderByExpr; 1]>::try_from(order) else {
            return Err(Error::syntax(format!("{name} needs WITHIN GROUP (ORDER BY ...)")));
        };
        let fraction = match order.options.asc {
            // From the other end.
            Some(false) if name == CONTINUOUS => {
                binary(number("1"), BinaryOperator::Minus, fraction)
            }
            Some(false) => return Err(Error::not_supported("PERCENTILE_DISC with DESC")),
            _ => fraction,
        };
        (order.expr, fraction, if name == CONTINUOUS { CONTINUOUS } else { DISCRETE })
    };
    function.name = ast::ObjectName::from(vec![Ident::new(target)]);
    if let FunctionArguments::List(list) = &mut function.args {
        list.args = [value, double(fraction)]
            .map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument)))
            .into();
    }
    Ok(())
}

/// RATIO_TO_REPORT(e) OVER w: e / SUM(e) OVER w.
fn ratio_to_report(function: &mut Function) -> Result<Expr> {
    let over = function.over.take();
    let [value] = exactly("ratio_to_report", arguments(function)?)?;
    let value = double(value);
    let mut total = call("sum", vec![value.clone()]);
    if let Expr::Function(total) = &mut total {
        total.over = over;
    }
    Ok(binary(value, BinaryOperator::Divide, total))
}

fn literal_text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Value(value) => match &value.value {
            ast::Value::SingleQuotedString(text) => Some(text.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn double(expr: Expr) -> Expr {
    cast(expr, ast::DataType::DoublePrecision)
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }
}

fn arguments(function: &mut Function) -> Result<Vec<Expr>> {
    let name = function.name.to_string();
    match &mut function.args {
        FunctionArguments::List(list) if list.duplicate_treatment.is_none() => list
            .args
            .drain(..)
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Ok(expr),
                _ => Err(wrong_arguments(&name)),
            })
            .collect(),
        FunctionArguments::None => Ok(Vec::new()),
        _ => Err(wrong_arguments(&name)),
    }
}

fn exactly<const N: usize>(name: &str, arguments: Vec<Expr>) -> Result<[Expr; N]> {
    arguments.try_into().map_err(|_| wrong_arguments(name))
}

fn wrong_arguments(name: &str) -> Error {
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("function {name} does not exist with these arguments"),
    )
    .with_hint("No function matches the given name and argument types. You may need to add explicit type casts.")
}
