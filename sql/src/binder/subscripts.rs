//! Subscripts of arrays, which only the system catalog has: `conkey[1]`, `indkey[attnum - 1]`.
//!
//! PartiQL's grammar reads them as paths into SUPER values. Arrays count from 1, but the vectors of
//! `pg_index` and `pg_proc` (types int2vector and oidvector) from 0, and drivers rely on both.

use datafusion::sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, JsonPath, JsonPathElem, Subscript, Value,
};

use super::prepare::{null, number};
use crate::error::{Error, Result};

/// The columns of the system catalog that are vectors.
const VECTORS: &[&str] = &["indkey", "indclass", "indcollation", "indoption", "proargtypes"];

/// What stands for `value[index]...`. Other paths are refused.
pub(super) fn replacement(value: &mut Expr, path: &mut JsonPath) -> Result<Expr> {
    let counts_from_zero = name(value).is_some_and(|name| VECTORS.contains(&name));
    let access_chain = path
        .path
        .drain(..)
        .map(|element| match element {
            JsonPathElem::Dot { .. } => Err(Error::not_supported("type super")),
            JsonPathElem::Bracket { key } | JsonPathElem::ColonBracket { key } => {
                // A name or all of them: only values of type SUPER have such.
                if matches!(key, Expr::Wildcard(_)) || is_string(&key) {
                    return Err(Error::not_supported("type super"));
                }
                let index = if counts_from_zero { one_more(key) } else { key };
                Ok(AccessExpr::Subscript(Subscript::Index { index }))
            }
        })
        .collect::<Result<_>>()?;
    Ok(Expr::CompoundFieldAccess { root: Box::new(std::mem::replace(value, null())), access_chain })
}

fn is_string(key: &Expr) -> bool {
    matches!(key, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

fn name(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(name) => Some(&name.value),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.as_str()),
        _ => None,
    }
}

fn one_more(index: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(index), op: BinaryOperator::Plus, right: Box::new(number("1")) }
}
