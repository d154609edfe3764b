//! A session as sqllogictest sees it: text in, rows of text and the types of the columns out.
//!
//! Rows come by the simple protocol, in the text form that psql shows; the types come from
//! describing the same statement, so each query goes both ways.

use async_trait::async_trait;
use sqllogictest::{AsyncDB, ColumnType, DBOutput};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage, SimpleQueryRow};

use crate::support::cluster::{self, Address};

/// The type of a result column, one letter each in a `query` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueType(char);

impl ColumnType for ValueType {
    fn from_char(letter: char) -> Option<ValueType> {
        "SILNFDTBAHMZV?".contains(letter).then_some(ValueType(letter))
    }

    fn to_char(&self) -> char {
        self.0
    }
}

impl ValueType {
    fn of(column_type: &Type) -> ValueType {
        ValueType(match *column_type {
            Type::INT2 => 'S',
            Type::INT4 => 'I',
            Type::INT8 => 'L',
            Type::NUMERIC => 'N',
            Type::FLOAT4 => 'F',
            Type::FLOAT8 => 'D',
            Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => 'T',
            Type::BOOL => 'B',
            Type::DATE => 'A',
            Type::TIME | Type::TIMETZ => 'H',
            Type::TIMESTAMP => 'M',
            Type::TIMESTAMPTZ => 'Z',
            Type::INTERVAL => 'V',
            _ => '?',
        })
    }
}

/// One connection of a file; `connection NAME` records open more.
pub(crate) struct Session {
    client: Client,
}

impl Session {
    pub(crate) async fn open(address: &Address) -> Result<Session, Failure> {
        Ok(Session { client: cluster::connect(&address.config()).await.map_err(Failure)? })
    }

    /// The types of a statement that returns rows; empty for any other.
    async fn describe(&self, sql: &str) -> Result<Vec<ValueType>, Failure> {
        let first = sql.trim_start_matches(['(', ' ', '\n']).split_whitespace().next();
        let word = first.unwrap_or_default().to_ascii_lowercase();
        if !matches!(word.as_str(), "select" | "with" | "values" | "show" | "fetch") {
            return Ok(Vec::new());
        }
        let statement = self.client.prepare(sql).await.map_err(Failure)?;
        Ok(statement.columns().iter().map(|column| ValueType::of(column.type_())).collect())
    }
}

#[async_trait]
impl AsyncDB for Session {
    type Error = Failure;
    type ColumnType = ValueType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<ValueType>, Failure> {
        let mut types = self.describe(sql).await?;
        let mut rows = Vec::new();
        let mut returned_rows = false;
        let mut affected = 0;
        for message in self.client.simple_query(sql).await.map_err(Failure)? {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    returned_rows = true;
                    types.resize(columns.len(), ValueType('?'));
                }
                SimpleQueryMessage::Row(row) => rows.push(row_of_text(&row)),
                SimpleQueryMessage::CommandComplete(count) => affected = count,
                _ => {}
            }
        }
        if returned_rows {
            Ok(DBOutput::Rows { types, rows })
        } else {
            Ok(DBOutput::StatementComplete(affected))
        }
    }

    async fn shutdown(&mut self) {}

    async fn sleep(duration: std::time::Duration) {
        tokio::time::sleep(duration).await;
    }

    fn error_sql_state(failure: &Failure) -> Option<String> {
        failure.0.code().map(SqlState::code).map(str::to_owned)
    }
}

/// An error with its code in front and what the server said after it.
#[derive(Debug)]
pub(crate) struct Failure(Error);

impl std::error::Error for Failure {}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(error) = self.0.as_db_error() else {
            return write!(formatter, "{:?}", self.0);
        };
        write!(formatter, "{}: {}", error.code().code(), error.message())?;
        if let Some(detail) = error.detail() {
            write!(formatter, " DETAIL: {detail}")?;
        }
        if let Some(hint) = error.hint() {
            write!(formatter, " HINT: {hint}")?;
        }
        Ok(())
    }
}

fn row_of_text(row: &SimpleQueryRow) -> Vec<String> {
    (0..row.len())
        .map(|column| match row.get(column) {
            None => "NULL".to_owned(),
            Some("") => "(empty)".to_owned(),
            Some(text) => text.to_owned(),
        })
        .collect()
}
