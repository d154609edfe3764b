//! The one error type of the crate, and the one shape of errors raised while a query runs.
//!
//! No SQLSTATE is named here except inside [`raise`]: the leader owns the table from [`ErrorKind`]
//! to codes. Messages are in the manner of Postgres: lower case, no full stop, DETAIL and HINT apart.

use datafusion::common::{DataFusionError, SchemaError};
use std::fmt;

/// Result of parsing and binding.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, so that the leader can choose the SQLSTATE and a caller can branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not in the grammar (42601).
    Syntax,
    /// A table or view is not visible (42P01).
    UndefinedTable,
    /// A schema does not exist (3F000).
    UndefinedSchema,
    /// A column does not exist (42703).
    UndefinedColumn,
    /// A name matches several columns (42702).
    AmbiguousColumn,
    /// A name of a table in front of a column matches several tables (42P09).
    AmbiguousAlias,
    /// No function has this name and these arguments (42883).
    UndefinedFunction,
    /// A type name is not known (42704).
    UndefinedType,
    /// A prepared parameter has no determinable type (42P18).
    IndeterminateType,
    /// A column is named twice (42701).
    DuplicateColumn,
    /// A table alias is used twice (42712).
    DuplicateAlias,
    /// A table definition contradicts itself (42P16).
    InvalidTableDefinition,
    /// An expression has the wrong type (42804).
    DatatypeMismatch,
    /// No cast leads from one type to the other (42846).
    CannotCoerce,
    /// A value is outside of what an option or modifier allows (22023).
    InvalidParameterValue,
    /// A column is neither grouped nor aggregated (42803).
    Grouping,
    /// A window function stands where none may (42P20).
    Windowing,
    /// The statement is valid Redshift, or nearly, but is not supported (0A000).
    FeatureNotSupported,
    /// More terms or nesting than the limits allow (54001).
    StatementTooComplex,
    /// Too many columns or too long a statement (54000).
    ProgramLimitExceeded,
    /// Too many columns (54011).
    TooManyColumns,
    /// A value could not be computed while constants were folded; holds its SQLSTATE.
    Value(String),
    /// A broken invariant of the planner (XX000).
    Internal,
}

/// An error for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The class of the error.
    pub kind: ErrorKind,
    /// Primary message.
    pub message: String,
    /// DETAIL line.
    pub detail: Option<String>,
    /// HINT line.
    pub hint: Option<String>,
    /// Where in the whole text, in characters from 1.
    pub position: Option<usize>,
}

impl Error {
    /// An error with a primary message only.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), detail: None, hint: None, position: None }
    }

    /// The same error with a DETAIL line.
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// The same error with a HINT line.
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A statement, clause or option that is refused by name.
    pub fn not_supported(what: impl fmt::Display) -> Self {
        Self::new(ErrorKind::FeatureNotSupported, format!("{what} is not supported"))
    }

    /// A syntax error without a known token.
    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Syntax, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for DataFusionError {
    fn from(error: Error) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for Error {
    fn from(error: DataFusionError) -> Self {
        from_planner(error)
    }
}

/// Prefix of the context that carries a SQLSTATE across nodes.
const SQLSTATE_PREFIX: &str = "SQLSTATE:";

/// A run-time error with its SQLSTATE, in the only shape that survives the way between nodes.
pub fn raise(sqlstate: &str, message: impl Into<String>) -> DataFusionError {
    DataFusionError::Context(
        format!("{SQLSTATE_PREFIX}{sqlstate}"),
        Box::new(DataFusionError::Execution(message.into())),
    )
}

/// The SQLSTATE and text of an error made by [`raise`], at any depth.
pub fn raised(error: &DataFusionError) -> Option<(String, String)> {
    match error {
        DataFusionError::Context(context, inner) => match context.strip_prefix(SQLSTATE_PREFIX) {
            Some(sqlstate) => Some((sqlstate.to_owned(), plain_message(inner))),
            None => raised(inner),
        },
        DataFusionError::Diagnostic(_, inner) => raised(inner),
        DataFusionError::Shared(inner) => raised(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(raised),
        _ => None,
    }
}

fn plain_message(error: &DataFusionError) -> String {
    match error {
        DataFusionError::Execution(message) | DataFusionError::Plan(message) => message.clone(),
        other => other.strip_backtrace(),
    }
}

fn from_planner(error: DataFusionError) -> Error {
    if let Some((sqlstate, message)) = raised(&error) {
        return Error::new(ErrorKind::Value(sqlstate), message);
    }
    match error {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(inner) => Error::new(ErrorKind::Internal, inner.to_string()),
        },
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            from_planner(*inner)
        }
        DataFusionError::Shared(inner) => from_shared(&inner),
        DataFusionError::Collection(mut errors) if !errors.is_empty() => {
            from_planner(errors.swap_remove(0))
        }
        DataFusionError::SchemaError(schema_error, _) => from_schema_error(&schema_error),
        DataFusionError::NotImplemented(message) => not_implemented(&message),
        DataFusionError::Plan(message) => from_plan_message(&message),
        DataFusionError::ArrowError(arrow_error, _) => from_arrow(&arrow_error),
        DataFusionError::SQL(parser_error, _) => {
            Error::syntax(lower_first(&parser_error.to_string()))
        }
        other => Error::new(ErrorKind::Internal, lower_first(&other.strip_backtrace())),
    }
}

/// What the planner has no plan for. A subquery that is left over is one that no join can replace.
fn not_implemented(message: &str) -> Error {
    const SUBQUERIES: [&str; 3] = ["ScalarSubquery", "InSubquery", "Exists"];
    let is_subquery = message.contains("does not support logical expression")
        && SUBQUERIES.iter().any(|name| message.contains(name));
    if is_subquery {
        return Error::not_supported("this type of correlated subquery pattern");
    }
    Error::new(ErrorKind::FeatureNotSupported, lower_first(message))
}

/// What Arrow's readers say of a literal.
fn from_arrow(error: &arrow::error::ArrowError) -> Error {
    use arrow::error::ArrowError;
    let text = error.to_string();
    match error {
        ArrowError::ParseError(message) | ArrowError::CastError(message) => {
            let sqlstate = if message.contains("type interval") { "22007" } else { "22P02" };
            Error::new(ErrorKind::Value(sqlstate.to_owned()), lower_first(message))
        }
        ArrowError::InvalidArgumentError(message) if message.contains("nterval") => {
            Error::new(ErrorKind::Value("22007".to_owned()), lower_first(message))
        }
        _ => Error::new(ErrorKind::Internal, text),
    }
}

fn from_shared(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::SchemaError(schema_error, _) => from_schema_error(schema_error),
        DataFusionError::Plan(message) => from_plan_message(message),
        other => Error::new(ErrorKind::Internal, lower_first(&other.strip_backtrace())),
    }
}

fn from_schema_error(error: &SchemaError) -> Error {
    match error {
        SchemaError::AmbiguousReference { field } => Error::new(
            ErrorKind::AmbiguousColumn,
            format!("column reference \"{}\" is ambiguous", field.name),
        ),
        SchemaError::DuplicateQualifiedField { name, .. }
        | SchemaError::DuplicateUnqualifiedField { name } => Error::new(
            ErrorKind::DuplicateColumn,
            format!("column \"{name}\" specified more than once"),
        ),
        SchemaError::FieldNotFound { field, valid_fields } => match &field.relation {
            Some(relation)
                if valid_fields.iter().all(|known| known.relation.as_ref() != Some(relation)) =>
            {
                let table = relation.table();
                Error::new(
                    ErrorKind::UndefinedTable,
                    format!("missing FROM-clause entry for table \"{table}\""),
                )
            }
            _ => undefined_column(&field.flat_name()),
        },
    }
}

fn undefined_column(name: &str) -> Error {
    let name = name.replace('"', "");
    let message = if name.contains('.') {
        format!("column {name} does not exist")
    } else {
        format!("column \"{name}\" does not exist")
    };
    Error::new(ErrorKind::UndefinedColumn, message)
}

/// The planner reports these only as text; the texts are pinned by tests of the binder.
fn from_plan_message(message: &str) -> Error {
    let first_line = message.lines().next().unwrap_or(message);
    if let Some(rest) = first_line.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or(rest);
        return undefined_function(name, &[]);
    }
    if let Some((operation, _)) = first_line.split_once(" queries have different number of columns")
    {
        return Error::syntax(format!(
            "each {operation} query must have the same number of columns"
        ));
    }
    if first_line.contains("subquery should only return one column") {
        return Error::syntax("subquery must return only one column");
    }
    if first_line.contains("must be in GROUP BY or an aggregate function")
        || first_line.contains("must appear in the GROUP BY clause")
    {
        return Error::new(
            ErrorKind::Grouping,
            "column must appear in the GROUP BY clause or be used in an aggregate function",
        )
        .with_detail(first_line);
    }
    if first_line.contains("require unique") {
        return Error::new(ErrorKind::DuplicateColumn, "a column is named more than once")
            .with_detail(first_line);
    }
    if first_line.contains("No function matches")
        || first_line.contains("Failed to coerce arguments")
    {
        return undefined_call(message);
    }
    if first_line.contains("grouping function is not in grouping columns") {
        return Error::new(
            ErrorKind::Grouping,
            "arguments to GROUPING must be grouping expressions of the associated query level",
        );
    }
    if first_line.contains("ggregate functions are not allowed in the WHERE clause") {
        return Error::new(ErrorKind::Grouping, "aggregate functions are not allowed in WHERE");
    }
    if first_line.contains("nnot be nested") || first_line.contains("nested aggregate") {
        return Error::new(ErrorKind::Grouping, "aggregate function calls cannot be nested");
    }
    if first_line.contains("annot coerce") || first_line.contains("annot infer common") {
        return Error::new(ErrorKind::DatatypeMismatch, lower_first(first_line));
    }
    Error::new(ErrorKind::DatatypeMismatch, lower_first(first_line))
}

/// No function of this name takes these types.
pub(crate) fn undefined_function(name: &str, types: &[String]) -> Error {
    Error::new(
        ErrorKind::UndefinedFunction,
        format!("function {name}({}) does not exist", types.join(", ")),
    )
    .with_hint(
        "No function matches the given name and argument types. You may need to add explicit type casts.",
    )
}

/// The planner says `... argument types 'name(Type, ...)'. ...` of a call that has no function.
fn undefined_call(message: &str) -> Error {
    let call = message
        .split_once("argument types '")
        .and_then(|(_, rest)| rest.split_once("'."))
        .and_then(|(call, _)| call.strip_suffix(')'))
        .and_then(|call| call.split_once('('));
    let Some((name, types)) = call else {
        return Error::new(
            ErrorKind::UndefinedFunction,
            "no function matches the given name and argument types",
        )
        .with_detail(message)
        .with_hint("You may need to add explicit type casts.");
    };
    let types: Vec<String> = split_types(types).iter().map(|name| sql_type_name(name)).collect();
    if let (Some(symbol), [left, right]) = (crate::functions::operator_symbol(name), &types[..]) {
        return Error::new(
            ErrorKind::UndefinedFunction,
            format!("operator does not exist: {left} {symbol} {right}"),
        )
        .with_hint(
            "No operator matches the given name and argument type(s). You may need to add explicit type casts.",
        );
    }
    undefined_function(name, &types)
}

/// Splits a list at its commas outside of parentheses.
fn split_types(list: &str) -> Vec<&str> {
    let mut types = Vec::new();
    let (mut depth, mut start) = (0_usize, 0);
    for (index, character) in list.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                types.push(list[start..index].trim());
                start = index + 1;
            }
            _ => {}
        }
    }
    types.push(list[start..].trim());
    types.retain(|name| !name.is_empty());
    types
}

/// The SQL name of a type that the planner names as Arrow does.
fn sql_type_name(arrow: &str) -> String {
    let (name, modifier) = arrow.split_once('(').unwrap_or((arrow, ""));
    match name {
        "Null" => "unknown",
        "Boolean" => "boolean",
        "Int8" | "Int16" | "UInt8" => "smallint",
        "Int32" | "UInt16" => "integer",
        "Int64" | "UInt32" => "bigint",
        "Float32" => "real",
        "Float64" => "double precision",
        "Decimal128" | "UInt64" => "numeric",
        "Utf8" | "LargeUtf8" | "Utf8View" => "character varying",
        "Date32" => "date",
        "Time64" => "time without time zone",
        "Timestamp" if modifier.contains(['"', '+']) => "timestamp with time zone",
        "Timestamp" => "timestamp without time zone",
        "Interval" => "interval",
        _ => arrow,
    }
    .to_owned()
}

fn lower_first(message: &str) -> String {
    let message = message.strip_prefix("Error during planning: ").unwrap_or(message);
    let message = message.strip_prefix("This feature is not implemented: ").unwrap_or(message);
    let mut characters = message.chars();
    match characters.next() {
        Some(first) => {
            let second_is_upper = characters.clone().next().is_some_and(char::is_uppercase);
            if second_is_upper {
                message.to_owned()
            } else {
                first.to_lowercase().chain(characters).collect()
            }
        }
        None => String::new(),
    }
}
