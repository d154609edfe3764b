//! Columnar segments of one slice, and their versions.

pub mod error;
pub mod ids;
pub mod predicate;
pub mod schema;
