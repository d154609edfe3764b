//! ALTER TABLE and COMMENT.

use super::{ColumnDefinition, DistStyle, Encoding, NamedConstraint, SortKey, TableName};

/// ALTER TABLE table change
#[derive(Debug, Clone)]
pub struct AlterTable {
    /// The table.
    pub table: TableName,
    /// What is to be different.
    pub change: TableChange,
}

/// What ALTER TABLE changes.
#[derive(Debug, Clone)]
pub enum TableChange {
    /// ADD [COLUMN]
    AddColumn(ColumnDefinition),
    /// DROP [COLUMN]
    DropColumn {
        /// The column.
        name: String,
        /// CASCADE
        cascade: bool,
    },
    /// RENAME [COLUMN] from TO to
    RenameColumn {
        /// Its name so far.
        from: String,
        /// Its new name.
        to: String,
    },
    /// RENAME TO
    Rename(String),
    /// OWNER TO
    Owner(String),
    /// ADD [CONSTRAINT name] constraint
    AddConstraint(NamedConstraint),
    /// DROP CONSTRAINT
    DropConstraint {
        /// The constraint.
        name: String,
        /// CASCADE
        cascade: bool,
    },
    /// ALTER of distribution, sort key or encodings
    Arrange(Arrangement),
    /// ALTER [COLUMN] column TYPE VARCHAR(length)
    Widen {
        /// The column.
        column: String,
        /// Its new length, bytes.
        length: u32,
    },
    /// APPEND FROM source
    Append {
        /// The table whose rows move.
        source: TableName,
        /// What becomes of columns that only one of the two has.
        unmatched: Unmatched,
    },
}

/// Columns that only one of two tables has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// There must be none.
    Refuse,
    /// IGNOREEXTRA: those of the source are left out.
    IgnoreExtra,
    /// FILLTARGET: those of the target get their defaults.
    FillTarget,
}

/// How the rows of a table shall lie; what is not given stays.
#[derive(Debug, Clone, Default)]
pub struct Arrangement {
    /// DISTSTYLE, and the column of KEY.
    pub distribution: Option<(DistStyle, Option<String>)>,
    /// SORTKEY; AUTO and NONE are the same.
    pub sort_key: Option<SortKey>,
    /// ENCODE of columns; None is AUTO.
    pub encodings: Vec<(String, Option<Encoding>)>,
    /// ENCODE AUTO for all columns.
    pub encode_auto: bool,
}

/// COMMENT ON
#[derive(Debug, Clone)]
pub struct Comment {
    /// What the comment is about.
    pub object: CommentedObject,
    /// The comment; `None` removes it.
    pub text: Option<String>,
}

/// An object that can have a comment.
#[derive(Debug, Clone)]
pub enum CommentedObject {
    /// TABLE
    Table(TableName),
    /// COLUMN table.column
    Column(TableName, String),
    /// CONSTRAINT name ON table
    Constraint(String, TableName),
    /// DATABASE
    Database(String),
    /// SCHEMA
    Schema(String),
}
