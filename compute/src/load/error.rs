//! Why a COPY fails. A row that does not fit is a [`BadRow`], which says all that
//! `stl_load_errors` keeps; everything else stops the load as a whole.

use datafusion::error::DataFusionError;

use crate::object_storage::ObjectStorageError;

/// Bytes of a raw line or field that a [`BadRow`] keeps, as in `stl_load_errors`.
pub const RAW_BYTES_MAX: usize = 1024;

/// The numbers of `stl_load_errors.err_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// More fields than columns.
    ExtraColumns,
    /// A string, a decimal or a float beyond its column.
    OutOfRange,
    /// Not a date.
    Date,
    /// Not a timestamp or time.
    Timestamp,
    /// Something else than a digit in an integer.
    Digit,
    /// Not a floating point number.
    Float,
    /// Not a decimal.
    Decimal,
    /// Not a boolean.
    Boolean,
    /// A line without data.
    EmptyLine,
    /// No data for a NOT NULL column.
    NotNull,
    /// No delimiter where one must be, so that a line has fewer fields than columns; misplaced
    /// quotes.
    Delimiter,
    /// What a CHAR column cannot hold.
    Char,
    /// A line that cannot be read at all.
    Line,
    /// Not UTF-8.
    Utf8,
    /// An integer beyond its column.
    IntegerOverflow,
}

impl ErrorCode {
    /// The number that users know.
    pub fn number(self) -> u16 {
        match self {
            Self::ExtraColumns => 1202,
            Self::OutOfRange => 1204,
            Self::Date => 1205,
            Self::Timestamp => 1206,
            Self::Digit => 1207,
            Self::Float => 1208,
            Self::Decimal => 1209,
            Self::Boolean => 1210,
            Self::EmptyLine => 1211,
            Self::NotNull => 1213,
            Self::Delimiter => 1214,
            Self::Char => 1215,
            Self::Line => 1216,
            Self::Utf8 => 1220,
            Self::IntegerOverflow => 1222,
        }
    }
}

/// A row of a file that cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// `s3://bucket/key`.
    pub file: String,
    /// Line of the file, counted from 1; in Parquet the row.
    pub line: u64,
    /// The column; empty if no column is to blame.
    pub column: String,
    /// The column's type as users write it.
    pub column_type: String,
    /// The column's length in bytes, for CHAR and VARCHAR.
    pub column_bytes: Option<u32>,
    /// Byte of the line, counted from 0, at which the field starts.
    pub position: u32,
    /// The field, at most [`RAW_BYTES_MAX`] bytes.
    pub raw_value: String,
    /// The line, at most [`RAW_BYTES_MAX`] bytes.
    pub raw_line: String,
    /// What kind of error.
    pub code: ErrorCode,
    /// What is wrong, in the words of Redshift.
    pub reason: String,
}

impl std::fmt::Display for BadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, file {}, line {}", self.reason, self.file, self.line)?;
        if !self.column.is_empty() {
            let Self { column, column_type, raw_value, .. } = self;
            write!(f, ", column {column} ({column_type}), value \"{raw_value}\"")?;
        }
        write!(f, " (code {})", self.code.number())
    }
}

/// What stops a COPY.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Object storage is not configured, refuses, or fails.
    #[error("{0}")]
    Storage(#[from] ObjectStorageError),
    /// The source is not `s3://bucket/prefix`; the user corrects the statement.
    #[error("invalid S3 location '{0}'")]
    Location(String),
    /// Nothing starts with the prefix.
    #[error("The specified S3 prefix '{0}' does not exist")]
    NoSuchPrefix(String),
    /// The options do not go together; the user corrects the statement.
    #[error("{0}")]
    Options(String),
    /// A row does not fit the table; the user corrects the data or the table.
    #[error("{0}")]
    BadRow(Box<BadRow>),
    /// A columnar file has another number of columns than the table or the column list.
    #[error(
        "Unmatched number of columns between table and file. Table columns: {table}, Data columns: \
         {data}, File name: {file}"
    )]
    ColumnCount {
        /// `s3://bucket/key`.
        file: String,
        /// Columns of the table or the column list.
        table: usize,
        /// Columns of the file.
        data: usize,
    },
    /// A column of a Parquet file has a type that does not go into the table's column.
    #[error(
        "File '{file}' has an incompatible Parquet schema for column '{column}'. Column type: \
         {column_type}, Parquet schema: {parquet}"
    )]
    Incompatible {
        /// `s3://bucket/key`.
        file: String,
        /// The table's column.
        column: String,
        /// The table's type.
        column_type: String,
        /// What the file has.
        parquet: String,
    },
    /// The file is not what the options say it is, or damaged: truncated, a bad checksum.
    #[error("File '{file}' cannot be read: {reason}")]
    Damaged {
        /// `s3://bucket/key`.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part of the pipeline ended without saying that it was complete: a defect.
    #[error("the load ended early: {0}")]
    Incomplete(String),
}

impl LoadError {
    /// Finds the error again in what an execution plan returned.
    pub fn find(error: &DataFusionError) -> Option<&Self> {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = next {
            if let Some(found) = error.downcast_ref::<Self>() {
                return Some(found);
            }
            next = match error.downcast_ref::<DataFusionError>() {
                Some(DataFusionError::External(inner)) => Some(inner.as_ref()),
                Some(DataFusionError::Context(_, inner)) => Some(inner.as_ref()),
                Some(DataFusionError::Shared(inner)) => Some(inner.as_ref()),
                _ => error.source(),
            };
        }
        None
    }
}

impl From<LoadError> for DataFusionError {
    fn from(error: LoadError) -> Self {
        Self::External(Box::new(error))
    }
}

/// What is wrong with one field, before anybody knows in which file and line it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(code: ErrorCode, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(super) fn not_null() -> Self {
        Self::new(ErrorCode::NotNull, "Missing data for not-null field")
    }
}

/// Raw bytes as a message shows them: cut, and with a mark for what is not UTF-8.
pub(super) fn raw_text(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(&bytes[..bytes.len().min(RAW_BYTES_MAX)]).into_owned();
    // The mark is longer than the byte that it stands for.
    let end = (0..=text.len().min(RAW_BYTES_MAX)).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}
