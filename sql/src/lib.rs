//! The Redshift dialect: from text to a bound logical plan.
//!
//! In reading order:
//! 1. [`parse`] turns a text into [`Statement`]s, within [`Limits`].
//! 2. [`Binder`] turns a query, an INSERT or a CREATE TABLE AS into a DataFusion logical plan against
//!    a [`Catalog`] snapshot and the [`SessionValues`]; [`SqlType`] is the type system.
//! 3. [`functions()`] are the functions that such plans use beside DataFusion's own, and
//!    [`rewrite::optimizer_rules`] the optimizer rules that are safe for them.
//!
//! The crate is pure: the same text, session values and catalog snapshot give the same plan. It
//! reads no clock and no file, and knows no DataFusion session. No DataFusion DDL, DML, COPY or SET
//! comes out of it.

mod binder;
mod catalog;
mod dialect;
pub mod error;
mod functions;
mod identity;
mod limits;
mod parser;
pub mod rewrite;
mod sources;
pub mod statement;
pub mod types;

pub use binder::{Binder, MergeStep, MergeSteps, VERSION, parameter_types};
pub use catalog::{
    Catalog, ROW_ID_COLUMN, ResolvedTable, SYSTEM_SCHEMA, SessionValues, TargetColumn, TargetTable,
};
pub use datafusion::sql::sqlparser::ast;
pub use error::{Error, Result};
pub use functions::{Functions, Notation, functions, notation};
pub use identity::{Identity, NewNumbers};
pub use limits::Limits;
pub use parser::{check_encoding, parse, parse_expression};
pub use statement::{Parsed, Statement};
pub use types::SqlType;
