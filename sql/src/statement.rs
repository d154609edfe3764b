//! What the parser gives: one type per statement, free of the syntax tree except where a query or
//! an expression is kept for binding.

use datafusion::sql::sqlparser::ast;
use std::fmt;
use std::ops::Range;

use crate::identity::Identity;
use crate::types::SqlType;

mod alter_table;

pub use alter_table::{AlterTable, Arrangement, Comment, CommentedObject, TableChange, Unmatched};

/// A statement and where it stands in the text.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The statement.
    pub statement: Statement,
    /// Its bytes in the text, without the semicolon.
    pub text: Range<usize>,
    /// Its text as others may see it: without passwords and keys.
    pub shown: String,
}

/// Every statement that is understood.
#[derive(Debug, Clone)]
pub enum Statement {
    /// SELECT, WITH ... SELECT, set operations
    Query(Box<ast::Query>),
    /// INSERT
    Insert(Insert),
    /// CREATE TABLE with columns or LIKE
    CreateTable(CreateTable),
    /// CREATE TABLE ... AS and SELECT ... INTO
    CreateTableAs(CreateTableAs),
    /// ALTER TABLE
    AlterTable(AlterTable),
    /// COMMENT
    Comment(Comment),
    /// DROP TABLE
    DropTable(DropTable),
    /// CREATE SCHEMA
    CreateSchema(CreateSchema),
    /// DROP SCHEMA
    DropSchema(DropSchema),
    /// TRUNCATE
    Truncate(TableName),
    /// LOCK
    Lock(Vec<TableName>),
    /// DELETE
    Delete(Delete),
    /// UPDATE
    Update(Update),
    /// MERGE
    Merge(Box<Merge>),
    /// EXPLAIN
    Explain(Explain),
    /// SET
    Set(Set),
    /// SET TRANSACTION: of the transaction in progress
    SetTransaction(TransactionModes),
    /// SET SESSION CHARACTERISTICS AS TRANSACTION: of transactions that begin from now on
    SetSessionTransactions(TransactionModes),
    /// ALTER DATABASE
    AlterDatabase(AlterDatabase),
    /// ALTER SYSTEM SET
    AlterSystem(AlterSystem),
    /// SHOW
    Show(Show),
    /// RESET
    Reset(Reset),
    /// COPY
    Copy(Box<Copy>),
    /// ANALYZE
    Analyze(Analyze),
    /// VACUUM
    Vacuum(Vacuum),
    /// BEGIN, START TRANSACTION
    Begin(TransactionModes),
    /// COMMIT, END
    Commit,
    /// ROLLBACK, ABORT
    Rollback,
    /// SAVEPOINT
    Savepoint(String),
    /// RELEASE
    Release(String),
    /// ROLLBACK TO
    RollbackTo(String),
    /// PREPARE
    Prepare(Prepare),
    /// EXECUTE
    Execute(Execute),
    /// DEALLOCATE; None is ALL
    Deallocate(Option<String>),
    /// DISCARD ALL
    DiscardAll,
    /// DECLARE ... CURSOR
    DeclareCursor(DeclareCursor),
    /// FETCH
    Fetch(Fetch),
    /// CLOSE; None is ALL
    Close(Option<String>),
    /// CANCEL
    Cancel(Cancel),
    /// CREATE USER
    CreateUser(CreateUser),
    /// ALTER USER
    AlterUser(AlterUser),
    /// DROP USER
    DropUser(DropNamed),
    /// CREATE GROUP
    CreateGroup(CreateGroup),
    /// ALTER GROUP
    AlterGroup(AlterGroup),
    /// DROP GROUP
    DropGroup(DropNamed),
    /// CREATE ROLE
    CreateRole(String),
    /// ALTER ROLE
    AlterRole(AlterRole),
    /// DROP ROLE
    DropRole(DropRole),
    /// GRANT ROLE, REVOKE ROLE
    GrantRole(GrantRole),
}

/// A possibly qualified table name, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Database, which must be the current one.
    pub database: Option<String>,
    /// Schema; without one the search path decides.
    pub schema: Option<String>,
    /// Name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.database, &self.schema].into_iter().flatten() {
            write!(formatter, "{part}.")?;
        }
        formatter.write_str(&self.name)
    }
}

/// INSERT INTO table [(columns)] source.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The target.
    pub table: TableName,
    /// The named columns; empty if none are named.
    pub columns: Vec<String>,
    /// Where the rows come from.
    pub source: InsertSource,
}

/// Where the rows of an INSERT come from.
#[derive(Debug, Clone)]
pub enum InsertSource {
    /// DEFAULT VALUES
    Defaults,
    /// VALUES (...), (...)
    Values(Vec<Vec<InsertValue>>),
    /// A query
    Query(Box<ast::Query>),
}

/// One value of a VALUES row.
#[derive(Debug, Clone)]
pub enum InsertValue {
    /// DEFAULT
    Default,
    /// An expression
    Expression(Box<ast::Expr>),
}

/// DISTSTYLE
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DistStyle {
    /// AUTO
    #[default]
    Auto,
    /// EVEN
    Even,
    /// KEY
    Key,
    /// ALL
    All,
}

/// SORTKEY
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SortKey {
    /// SORTKEY AUTO, the default
    #[default]
    Auto,
    /// [COMPOUND] SORTKEY (columns)
    Compound(Vec<String>),
    /// INTERLEAVED SORTKEY (columns)
    Interleaved(Vec<String>),
}

/// The name after ENCODE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// RAW
    Raw,
    /// AZ64
    Az64,
    /// BYTEDICT
    Bytedict,
    /// DELTA
    Delta,
    /// DELTA32K
    Delta32k,
    /// LZO
    Lzo,
    /// MOSTLY8
    Mostly8,
    /// MOSTLY16
    Mostly16,
    /// MOSTLY32
    Mostly32,
    /// RUNLENGTH
    RunLength,
    /// TEXT255
    Text255,
    /// TEXT32K
    Text32k,
    /// ZSTD
    Zstd,
}

/// The attributes after the column list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableAttributes {
    /// DISTSTYLE, or KEY if only a DISTKEY was given; None if neither was.
    pub dist_style: Option<DistStyle>,
    /// The DISTKEY column.
    pub dist_key: Option<String>,
    /// The sort key.
    pub sort_key: SortKey,
    /// ENCODE AUTO was written.
    pub encode_auto: bool,
    /// BACKUP YES or NO.
    pub backup: Option<bool>,
}

/// CREATE TABLE with columns.
#[derive(Debug, Clone)]
pub struct CreateTable {
    /// The new table.
    pub name: TableName,
    /// TEMPORARY, or a name that begins with #.
    pub temporary: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// The columns, without those of `like`.
    pub columns: Vec<ColumnDefinition>,
    /// LIKE parent
    pub like: Option<LikeTable>,
    /// Informational keys.
    pub constraints: Vec<NamedConstraint>,
    /// Distribution, sort key and the rest.
    pub attributes: TableAttributes,
}

/// A column of CREATE TABLE.
#[derive(Debug, Clone)]
pub struct ColumnDefinition {
    /// Its name.
    pub name: String,
    /// Its type.
    pub sql_type: SqlType,
    /// NOT NULL, also by PRIMARY KEY.
    pub not_null: bool,
    /// The text of DEFAULT.
    pub default: Option<String>,
    /// IDENTITY
    pub identity: Option<Identity>,
    /// ENCODE
    pub encoding: Option<Encoding>,
}

/// LIKE parent [{INCLUDING | EXCLUDING} DEFAULTS]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeTable {
    /// The table to copy from.
    pub parent: TableName,
    /// INCLUDING DEFAULTS
    pub including_defaults: bool,
}

/// A key with the name that CONSTRAINT gives it, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedConstraint {
    /// CONSTRAINT name
    pub name: Option<String>,
    /// What it is.
    pub constraint: Constraint,
}

/// A key that is stored but not enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// PRIMARY KEY (columns)
    PrimaryKey(Vec<String>),
    /// UNIQUE (columns)
    Unique(Vec<String>),
    /// FOREIGN KEY (columns) REFERENCES table [(columns)]
    ForeignKey {
        /// Referencing columns.
        columns: Vec<String>,
        /// Referenced table.
        table: TableName,
        /// Referenced columns; empty for its primary key.
        referenced: Vec<String>,
    },
}

/// CREATE TABLE ... AS query.
#[derive(Debug, Clone)]
pub struct CreateTableAs {
    /// The new table.
    pub name: TableName,
    /// TEMPORARY, or a name that begins with #.
    pub temporary: bool,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// Column names; empty to take those of the query.
    pub columns: Vec<String>,
    /// Distribution, sort key and the rest.
    pub attributes: TableAttributes,
    /// The query.
    pub query: Box<ast::Query>,
}

/// DROP TABLE
#[derive(Debug, Clone)]
pub struct DropTable {
    /// The tables.
    pub tables: Vec<TableName>,
    /// IF EXISTS
    pub if_exists: bool,
    /// CASCADE
    pub cascade: bool,
}

/// CREATE SCHEMA
#[derive(Debug, Clone)]
pub struct CreateSchema {
    /// Its name.
    pub name: String,
    /// IF NOT EXISTS
    pub if_not_exists: bool,
    /// AUTHORIZATION
    pub owner: Option<String>,
}

/// DROP SCHEMA
#[derive(Debug, Clone)]
pub struct DropSchema {
    /// The schemas.
    pub schemas: Vec<String>,
    /// IF EXISTS
    pub if_exists: bool,
    /// CASCADE
    pub cascade: bool,
}

/// [WITH ...] DELETE [FROM] table [USING ...] [WHERE ...]
#[derive(Debug, Clone)]
pub struct Delete {
    /// WITH
    pub with: Option<ast::With>,
    /// The target.
    pub table: TableName,
    /// Its alias.
    pub alias: Option<String>,
    /// USING
    pub using: Vec<ast::TableWithJoins>,
    /// WHERE
    pub selection: Option<ast::Expr>,
}

/// [WITH ...] UPDATE table SET ... [FROM ...] [WHERE ...]
#[derive(Debug, Clone)]
pub struct Update {
    /// WITH
    pub with: Option<ast::With>,
    /// The target.
    pub table: TableName,
    /// Its alias.
    pub alias: Option<String>,
    /// SET
    pub assignments: Vec<Assignment>,
    /// FROM
    pub from: Vec<ast::TableWithJoins>,
    /// WHERE
    pub selection: Option<ast::Expr>,
}

impl Update {
    /// UPDATE table SET column = DEFAULT
    pub fn to_default(table: TableName, column: &str) -> Self {
        let assignment = Assignment { column: column.to_owned(), value: InsertValue::Default };
        Self {
            with: None,
            table,
            alias: None,
            assignments: vec![assignment],
            from: Vec::new(),
            selection: None,
        }
    }
}

/// column = value
#[derive(Debug, Clone)]
pub struct Assignment {
    /// The column of the target.
    pub column: String,
    /// Its new value.
    pub value: InsertValue,
}

/// MERGE INTO table USING source ON condition ...
#[derive(Debug, Clone)]
pub struct Merge {
    /// The target.
    pub table: TableName,
    /// Its alias.
    pub alias: Option<String>,
    /// USING
    pub source: ast::TableFactor,
    /// ON
    pub condition: ast::Expr,
    /// What is done.
    pub action: MergeAction,
}

/// What MERGE does with the rows of its source.
#[derive(Debug, Clone)]
pub enum MergeAction {
    /// WHEN MATCHED ... WHEN NOT MATCHED THEN INSERT
    Clauses {
        /// Of rows of the target that match.
        matched: MergeMatched,
        /// The named columns of INSERT; empty if none are named.
        columns: Vec<String>,
        /// VALUES
        values: Vec<InsertValue>,
    },
    /// REMOVE DUPLICATES
    RemoveDuplicates,
}

/// WHEN MATCHED THEN
#[derive(Debug, Clone)]
pub enum MergeMatched {
    /// UPDATE SET
    Update(Vec<Assignment>),
    /// DELETE
    Delete,
}

/// EXPLAIN
#[derive(Debug, Clone)]
pub struct Explain {
    /// ANALYZE: run it and report what happened. Not in Redshift.
    pub analyze: bool,
    /// VERBOSE
    pub verbose: bool,
    /// What is explained.
    pub statement: Box<Statement>,
}

/// The right side of SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetValue {
    /// TO DEFAULT
    Default,
    /// The values of the list, without quotes.
    Values(Vec<String>),
}

/// SET [LOCAL | SESSION] name TO value
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Until the end of the transaction only.
    pub local: bool,
    /// The parameter, in lower case, possibly with one dot.
    pub name: String,
    /// Its new value.
    pub value: SetValue,
}

/// ALTER SYSTEM SET name = value
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterSystem {
    /// The parameter, in lower case.
    pub name: String,
    /// Its new value.
    pub value: SetValue,
}

/// SHOW
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Show {
    /// SHOW ALL
    All,
    /// SHOW parameter
    Parameter(String),
    /// SHOW TABLE table
    Table(TableName),
}

/// RESET; None is ALL
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// The parameter, in lower case.
    pub name: Option<String>,
}

/// ANALYZE
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyze {
    /// VERBOSE
    pub verbose: bool,
    /// The table; None for all.
    pub table: Option<TableName>,
    /// The columns; empty for all.
    pub columns: Vec<String>,
    /// PREDICATE COLUMNS
    pub predicate_columns: bool,
}

/// VACUUM
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacuum {
    /// What to do.
    pub mode: VacuumMode,
    /// The table; None for all.
    pub table: Option<TableName>,
    /// TO n PERCENT
    pub percent: Option<u8>,
    /// BOOST
    pub boost: bool,
}

/// The kinds of VACUUM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VacuumMode {
    /// FULL, the default
    Full,
    /// SORT ONLY
    SortOnly,
    /// DELETE ONLY
    DeleteOnly,
    /// REINDEX
    Reindex,
    /// RECLUSTER
    Recluster,
}

/// What BEGIN and its like say of a transaction; nothing is said of what is None.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransactionModes {
    /// ISOLATION LEVEL
    pub isolation: Option<IsolationLevel>,
    /// READ ONLY, or READ WRITE
    pub read_only: Option<bool>,
}

/// The names of isolation levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IsolationLevel {
    /// SERIALIZABLE
    Serializable,
    /// SNAPSHOT
    Snapshot,
    /// REPEATABLE READ
    RepeatableRead,
    /// READ COMMITTED
    ReadCommitted,
    /// READ UNCOMMITTED
    ReadUncommitted,
}

/// ALTER DATABASE name ISOLATION LEVEL
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterDatabase {
    /// Its name.
    pub name: String,
    /// SERIALIZABLE or SNAPSHOT.
    pub isolation: IsolationLevel,
}

/// PREPARE name [(types)] AS statement
#[derive(Debug, Clone)]
pub struct Prepare {
    /// Its name.
    pub name: String,
    /// The parameter types.
    pub types: Vec<SqlType>,
    /// What is prepared.
    pub statement: Box<Statement>,
}

/// EXECUTE name [(arguments)]
#[derive(Debug, Clone)]
pub struct Execute {
    /// The prepared statement.
    pub name: String,
    /// Its arguments.
    pub arguments: Vec<ast::Expr>,
}

/// DECLARE name CURSOR [WITH HOLD] FOR query
#[derive(Debug, Clone)]
pub struct DeclareCursor {
    /// The cursor.
    pub name: String,
    /// WITH HOLD: it outlives the transaction that declared it. Not in Redshift.
    pub with_hold: bool,
    /// Its query.
    pub query: Box<ast::Query>,
}

/// FETCH
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// The cursor.
    pub name: String,
    /// Rows to fetch; None is ALL.
    pub rows: Option<u64>,
}

/// CANCEL pid ['message']
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancel {
    /// The backend.
    pub pid: i32,
    /// Told to its client.
    pub message: Option<String>,
}

/// CREATE USER
#[derive(Debug, Clone)]
pub struct CreateUser {
    /// Its name.
    pub name: String,
    /// What was said of it.
    pub options: UserOptions,
    /// IN GROUP
    pub groups: Vec<String>,
}

/// ALTER USER
#[derive(Debug, Clone)]
pub struct AlterUser {
    /// Whom.
    pub name: String,
    /// How.
    pub action: UserAction,
}

/// What ALTER USER does.
#[derive(Debug, Clone)]
pub enum UserAction {
    /// Options as in CREATE USER.
    Options(Box<UserOptions>),
    /// RENAME TO
    Rename(String),
    /// SET parameter: what new sessions of the user begin with.
    Set(String, SetValue),
    /// RESET parameter; None is ALL.
    Reset(Option<String>),
}

/// The options of CREATE USER and ALTER USER; None: not given.
#[derive(Debug, Clone, Default)]
pub struct UserOptions {
    /// PASSWORD
    pub password: Option<NewPassword>,
    /// CREATEDB, NOCREATEDB
    pub createdb: Option<bool>,
    /// CREATEUSER, NOCREATEUSER
    pub superuser: Option<bool>,
    /// SYSLOG ACCESS UNRESTRICTED, RESTRICTED
    pub syslog_unrestricted: Option<bool>,
    /// VALID UNTIL
    pub valid_until: Option<String>,
    /// CONNECTION LIMIT; None inside is UNLIMITED.
    pub connection_limit: Option<Option<u32>>,
    /// SESSION TIMEOUT in seconds; None inside is RESET SESSION TIMEOUT.
    pub session_timeout: Option<Option<u32>>,
}

/// What follows PASSWORD.
#[derive(Debug, Clone)]
pub enum NewPassword {
    /// The password, or a hash of it.
    Text(Secret),
    /// DISABLE
    Disabled,
}

/// DROP USER, DROP GROUP
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropNamed {
    /// Which.
    pub names: Vec<String>,
    /// IF EXISTS
    pub if_exists: bool,
}

/// CREATE GROUP
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroup {
    /// Its name.
    pub name: String,
    /// WITH USER
    pub users: Vec<String>,
}

/// ALTER GROUP
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterGroup {
    /// Which.
    pub name: String,
    /// How.
    pub action: GroupAction,
}

/// What ALTER GROUP does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupAction {
    /// ADD USER
    Add(Vec<String>),
    /// DROP USER
    Drop(Vec<String>),
    /// RENAME TO
    Rename(String),
}

/// ALTER ROLE
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterRole {
    /// Which.
    pub name: String,
    /// How.
    pub action: RoleAction,
}

/// What ALTER ROLE does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleAction {
    /// RENAME TO
    Rename(String),
    /// OWNER TO
    Owner(String),
}

/// DROP ROLE
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropRole {
    /// Which.
    pub name: String,
    /// FORCE: also one that somebody has.
    pub force: bool,
}

/// GRANT ROLE, REVOKE ROLE
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRole {
    /// Which.
    pub roles: Vec<String>,
    /// To whom, or from whom.
    pub grantees: Vec<Grantee>,
    /// REVOKE
    pub revoke: bool,
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grantee {
    /// A user.
    User(String),
    /// Another role, and so all who have it.
    Role(String),
}

/// A value that must not be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value in.
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// Gives the value out, to the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("***")
    }
}

/// COPY table [(columns)] FROM 'source' options
#[derive(Debug, Clone)]
pub struct Copy {
    /// The target.
    pub table: TableName,
    /// The named columns; empty for all.
    pub columns: Vec<String>,
    /// What stands after FROM: an object prefix, or with `manifest` the manifest itself.
    pub source: String,
    /// Whose right to read the source.
    pub authorization: Authorization,
    /// REGION
    pub region: Option<String>,
    /// How the bytes are read.
    pub format: CopyFormat,
    /// How the files are compressed.
    pub compression: Compression,
    /// MANIFEST
    pub manifest: bool,
    /// IGNOREHEADER
    pub ignore_header: u64,
    /// NULL AS; None is \N.
    pub null_as: Option<String>,
    /// DATEFORMAT
    pub date_format: Option<String>,
    /// TIMEFORMAT
    pub time_format: Option<String>,
    /// EMPTYASNULL
    pub empty_as_null: bool,
    /// BLANKSASNULL
    pub blanks_as_null: bool,
    /// TRUNCATECOLUMNS
    pub truncate_columns: bool,
    /// TRIMBLANKS
    pub trim_blanks: bool,
    /// IGNOREBLANKLINES
    pub ignore_blank_lines: bool,
    /// FILLRECORD
    pub fill_record: bool,
    /// EXPLICIT_IDS
    pub explicit_ids: bool,
    /// ACCEPTINVCHARS: the replacement.
    pub accept_invalid_characters: Option<char>,
    /// MAXERROR
    pub max_error: u64,
    /// NOLOAD
    pub no_load: bool,
    /// COMPUPDATE
    pub compupdate: CompUpdate,
    /// STATUPDATE; None is the default.
    pub statupdate: Option<bool>,
}

/// The authorization clause of COPY.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authorization {
    /// None was given: the server's own credentials.
    Server,
    /// IAM_ROLE
    IamRole(String),
    /// Access keys
    Keys {
        /// ACCESS_KEY_ID
        access_key_id: String,
        /// SECRET_ACCESS_KEY
        secret_access_key: Secret,
        /// SESSION_TOKEN
        session_token: Option<Secret>,
    },
}

/// The data format of COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyFormat {
    /// Fields between delimiters, without quotes.
    Delimited {
        /// DELIMITER, default |.
        delimiter: u8,
        /// ESCAPE
        escape: bool,
        /// REMOVEQUOTES
        remove_quotes: bool,
    },
    /// CSV
    Csv {
        /// DELIMITER, default comma.
        delimiter: u8,
        /// QUOTE, default ".
        quote: u8,
    },
    /// PARQUET
    Parquet,
}

/// File compression of COPY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// GZIP
    Gzip,
    /// ZSTD
    Zstd,
}

/// COMPUPDATE
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompUpdate {
    /// Not given.
    #[default]
    Default,
    /// PRESET
    Preset,
    /// ON
    On,
    /// OFF
    Off,
}
