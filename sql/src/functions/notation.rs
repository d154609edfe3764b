//! How a call of a plan's function is written in SQL, for whoever shows a plan.

use super::{BLANK_STRIPPED, CAST, negate, operator_symbol};

/// The form of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notation {
    /// `(a + b)`, of two arguments.
    Infix(&'static str),
    /// `(- a)`
    Prefix(&'static str),
    /// `(a)::type`; the second argument is the type's name.
    Cast,
    /// Nothing but its argument: it only prepares a comparison.
    Argument,
    /// `name(a, b)`
    Call,
}

/// The form in which the function of that name is written.
pub fn notation(function: &str) -> Notation {
    if let Some(symbol) = operator_symbol(function) {
        return Notation::Infix(symbol);
    }
    match function {
        CAST => Notation::Cast,
        BLANK_STRIPPED => Notation::Argument,
        negate::NAME => Notation::Prefix("-"),
        _ => Notation::Call,
    }
}
