//! Parsers of single values: bytes of a field to a number, a date, a time. Nothing here allocates
//! but the reason of a fault. Each takes a field without surrounding blanks that is not empty.

pub(super) mod auto;
pub(super) mod datetime;
pub(super) mod number;
