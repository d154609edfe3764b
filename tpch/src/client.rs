//! A connection to the server under test, over the Postgres wire.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use crate::check::Row;

/// A client session; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Client {
    config: Config,
    client: tokio_postgres::Client,
    /// Moves bytes between the socket and the client.
    _connection: JoinSet<()>,
}

/// A result and how long it took from sending the statement to the last row received.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) elapsed: Duration,
    pub(crate) rows: Vec<Row>,
}

impl Client {
    pub(crate) async fn connect(config: Config) -> anyhow::Result<Self> {
        let (client, connection) = config.connect(NoTls).await.context("cannot connect")?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // A broken connection shows in the next statement.
            let _ = connection.await;
        });
        Ok(Self { config, client, _connection: task })
    }

    /// The same session settings on a new connection, if this one is gone.
    pub(crate) async fn reconnect_if_closed(&mut self) -> anyhow::Result<bool> {
        if !self.client.is_closed() {
            return Ok(false);
        }
        *self = Self::connect(self.config.clone()).await?;
        Ok(true)
    }

    /// Run a statement without looking at its rows.
    pub(crate) async fn execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.simple_query(sql).await.map(|_| ())
    }

    /// Run a query and fetch all its rows, in text form.
    pub(crate) async fn fetch(&self, sql: &str) -> Result<Fetched, tokio_postgres::Error> {
        let start = Instant::now();
        let messages = self.client.simple_query(sql).await?;
        let elapsed = start.elapsed();
        let rows = messages.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(Fetched { elapsed, rows: rows.collect() })
    }

    /// The first value of a query's first row.
    pub(crate) async fn value(&self, sql: &str) -> Result<Option<String>, tokio_postgres::Error> {
        let fetched = self.fetch(sql).await?;
        Ok(fetched.rows.into_iter().next().and_then(|row| row.into_iter().next().flatten()))
    }
}

/// An error with the server's primary message, detail and hint.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let Some(server) = error.as_db_error() else { return error.to_string() };
    let mut text = format!("{} ({})", server.message(), server.code().code());
    for (title, part) in [("detail", server.detail()), ("hint", server.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("; {title}: {part}"));
        }
    }
    text
}
