//! Operators that are functions of the plan: powers, patterns of strings.

use datafusion::sql::sqlparser::ast::{self, BinaryOperator, Expr};

use super::prepare::{call, cast, null, string};
use crate::error::{Error, Result};
use crate::functions::{LIKE_ESCAPE, MATCHES, SIMILAR_TO};

/// A replacement for a binary operator, if it needs one.
pub(super) fn binary(left: &mut Expr, op: &BinaryOperator, right: &mut Expr) -> Option<Expr> {
    let (negated, parameters) = match op {
        BinaryOperator::BitwiseXor | BinaryOperator::PGExp => {
            let doubles =
                [left, right].map(|side| cast(take(side), ast::DataType::DoublePrecision));
            return Some(call("power", doubles.into()));
        }
        BinaryOperator::PGRegexMatch => (false, ""),
        BinaryOperator::PGRegexIMatch => (false, "i"),
        BinaryOperator::PGRegexNotMatch => (true, ""),
        BinaryOperator::PGRegexNotIMatch => (true, "i"),
        _ => return None,
    };
    let matches = call(MATCHES, vec![take(left), take(right), string(parameters)]);
    Some(not_if(negated, matches))
}

/// LIKE with an escape character, and SIMILAR TO.
pub(super) fn pattern(expr: &mut Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Like { any: true, .. } | Expr::ILike { any: true, .. } => {
            Err(Error::not_supported("LIKE ANY"))
        }
        Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
            if let Some(escape) = escape_char.take() {
                let escape = string(&escape_text(&escape.value)?);
                **pattern = call(LIKE_ESCAPE, vec![take(pattern), escape]);
            }
            Ok(None)
        }
        Expr::SimilarTo { negated, expr, pattern, escape_char } => {
            let escape = match escape_char {
                Some(escape) => escape_text(&escape.value)?,
                None => "\\".to_owned(),
            };
            let similar = call(SIMILAR_TO, vec![take(expr), take(pattern), string(&escape)]);
            Ok(Some(not_if(*negated, similar)))
        }
        _ => Ok(None),
    }
}

fn escape_text(value: &ast::Value) -> Result<String> {
    match value {
        ast::Value::SingleQuotedString(text) | ast::Value::EscapedStringLiteral(text) => {
            Ok(text.clone())
        }
        _ => Err(Error::syntax("ESCAPE needs a string")),
    }
}

fn take(expr: &mut Expr) -> Expr {
    std::mem::replace(expr, null())
}

fn not_if(negated: bool, expr: Expr) -> Expr {
    if negated { Expr::UnaryOp { op: ast::UnaryOperator::Not, expr: Box::new(expr) } } else { expr }
}
