//! Tables made and filled over the wire: CREATE TABLE, COPY from object storage, ANALYZE.

use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use crate::client::{Client, describe};
use crate::generate::Dataset;
use crate::progress::Progress;
use crate::tables::Table;

const SCHEMA: &str = include_str!("../schema.sql");

/// Where the server finds the files, and with which keys.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) bucket: String,
    pub(crate) access_key: String,
    pub(crate) secret_key: String,
    /// Of temporary keys.
    pub(crate) session_token: Option<String>,
}

/// What loading cost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Load {
    pub(crate) rows: u64,
    pub(crate) parquet_bytes: u64,
    pub(crate) copy_ms: f64,
    pub(crate) analyze_ms: f64,
    pub(crate) tables: Vec<TableLoad>,
}

/// The COPY of one table.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct TableLoad {
    pub(crate) table: &'static str,
    pub(crate) rows: u64,
    pub(crate) copy_ms: f64,
}

impl Load {
    pub(crate) fn total_ms(&self) -> f64 {
        self.copy_ms + self.analyze_ms
    }
}

/// Whether the data is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    Complete,
}

/// Look at the server's tables. Tables that hold something else are an error: they may be
/// somebody's, and this program never drops or fills them.
pub(crate) async fn presence(client: &Client, scale: f64) -> anyhow::Result<Presence> {
    let mut present = 0;
    for table in Table::ALL {
        let name = table.name();
        let counted = client.value(&format!("SELECT count(*) FROM {name}")).await;
        let rows: u64 = match counted {
            Ok(value) => value.context("count(*) gave no value")?.parse()?,
            Err(error) if is_undefined_table(&error) => continue,
            Err(error) => bail!("cannot count the rows of {name}: {}", describe(&error)),
        };
        let expected = table.rows_expected(scale);
        let fits = match table.rows_are_exact() {
            true => rows == expected,
            false => rows.abs_diff(expected) <= expected / 20,
        };
        ensure!(
            fits,
            "table {name} holds {rows} rows, expected {expected} at scale {scale}: drop the \
             benchmark's tables or connect to another database"
        );
        present += 1;
    }
    match present {
        0 => Ok(Presence::Absent),
        all if all == Table::ALL.len() => Ok(Presence::Complete),
        some => bail!("only {some} of the benchmark's tables exist: drop them first"),
    }
}

fn is_undefined_table(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::UNDEFINED_TABLE)
}

/// Create, fill and analyze the eight tables, and count their rows.
pub(crate) async fn load(client: &Client, data: &Dataset, source: &Source) -> anyhow::Result<Load> {
    for statement in schema_statements() {
        run(client, &statement, &statement).await?;
    }
    let progress = Progress::new("loading", data.rows.len());
    let mut tables = Vec::new();
    for (table, rows) in &data.rows {
        progress.at(table);
        let start = Instant::now();
        run(client, &copy_statement(table, source), &format!("COPY {table}")).await?;
        let copy_ms = milliseconds_since(start);
        progress.step(table);
        tables.push(TableLoad { table, rows: *rows, copy_ms });
    }
    progress.at("analyze");
    let start = Instant::now();
    for (table, _) in &data.rows {
        run(client, &format!("ANALYZE {table}"), "ANALYZE").await?;
    }
    let analyze_ms = milliseconds_since(start);
    progress.finish();
    for (table, rows) in &data.rows {
        let sql = format!("SELECT count(*) FROM {table}");
        let counted = client.value(&sql).await.map_err(|error| failed(&sql, &error))?;
        let counted = counted.unwrap_or_default();
        ensure!(counted == rows.to_string(), "{table} has {counted} rows after COPY of {rows}");
    }
    let copy_ms = tables.iter().map(|table| table.copy_ms).sum();
    let (rows, parquet_bytes) = (data.rows_total(), data.bytes);
    Ok(Load { rows, parquet_bytes, copy_ms, analyze_ms, tables })
}

async fn run(client: &Client, sql: &str, shown: &str) -> anyhow::Result<()> {
    client.execute(sql).await.map_err(|error| failed(shown, &error))
}

/// Keys never appear in messages: `shown` stands for the statement.
fn failed(shown: &str, error: &tokio_postgres::Error) -> anyhow::Error {
    anyhow::anyhow!("{shown} failed: {}", describe(error))
}

fn milliseconds_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// The statements of `schema.sql`.
fn schema_statements() -> Vec<String> {
    let lines = SCHEMA.lines().filter(|line| !line.starts_with("--"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let statements = text.split(';').map(str::trim);
    statements.filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

fn copy_statement(table: &str, source: &Source) -> String {
    let quoted = |text: &str| text.replace('\'', "''");
    let mut sql = format!(
        "COPY {table} FROM 's3://{}/{table}/' ACCESS_KEY_ID '{}' SECRET_ACCESS_KEY '{}'",
        quoted(&source.bucket),
        quoted(&source.access_key),
        quoted(&source.secret_key),
    );
    if let Some(token) = &source.session_token {
        sql.push_str(&format!(" SESSION_TOKEN '{}'", quoted(token)));
    }
    sql.push_str(" FORMAT AS PARQUET");
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_creates_the_eight_tables() {
        let statements = schema_statements();
        assert_eq!(statements.len(), 8);
        for table in Table::ALL {
            let start = format!("CREATE TABLE {} (", table.name());
            let count = statements.iter().filter(|text| text.starts_with(&start)).count();
            assert_eq!(count, 1, "{}", table.name());
        }
    }

    #[test]
    fn copy_names_the_folder_and_quotes_the_keys() {
        let mut source = Source {
            bucket: "tpch".to_owned(),
            access_key: "AK1".to_owned(),
            secret_key: "it's".to_owned(),
            session_token: None,
        };
        assert_eq!(
            copy_statement("nation", &source),
            "COPY nation FROM 's3://tpch/nation/' ACCESS_KEY_ID 'AK1' SECRET_ACCESS_KEY 'it''s' \
             FORMAT AS PARQUET"
        );
        source.session_token = Some("T".to_owned());
        assert!(copy_statement("nation", &source).contains(" SESSION_TOKEN 'T' FORMAT"));
    }
}
