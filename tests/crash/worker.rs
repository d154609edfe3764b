//! Sessions at work on a server that dies, and what they know afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use crate::model::{Maker, Model, SHARED, Table, Work};
use crate::server::connect;

/// A statement that takes longer hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What all sessions share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) stops: AtomicBool,
    /// The power is being cut. What is acknowledged from now on comes from a machine that would be
    /// dead: a sync that meets the cut may claim to be done (ext4 takes a transaction that its
    /// journal has dropped for one that it has committed).
    pub(crate) is_cut: AtomicBool,
    /// Statements or transactions whose end was acknowledged.
    pub(crate) acknowledged: AtomicU64,
}

/// What a worker knows of its tables when it stops.
pub(crate) struct Told {
    /// All that was acknowledged.
    pub(crate) before: Model,
    /// What there is if the work whose end it does not know was done.
    pub(crate) after: Option<Work>,
    pub(crate) next_name: u32,
    /// What should not have happened.
    pub(crate) complaint: Option<String>,
}

/// How a statement failed.
enum Failure {
    /// The server said so: SQLSTATE and message.
    Refused(String, String),
    /// The connection is gone.
    Gone,
    /// No answer.
    Hangs,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.as_db_error() {
            Some(error) => Failure::Refused(error.code().code().to_owned(), error.to_string()),
            None => Failure::Gone,
        }
    }
}

/// A worker to be.
pub(crate) struct Worker {
    pub(crate) number: usize,
    pub(crate) model: Model,
    pub(crate) next_name: u32,
    pub(crate) seed: u64,
    pub(crate) keys: Arc<str>,
    /// Whether the disk or nodes may fail under it, so that an error is no surprise.
    pub(crate) errors_expected: bool,
}

impl Worker {
    /// Works until it is told to stop or the server is gone.
    pub(crate) async fn run(self, address: Config, shared: Arc<Shared>) -> Told {
        let mut told = Told {
            before: self.model.clone(),
            after: None,
            next_name: self.next_name,
            complaint: None,
        };
        let Ok(client) = connect(&address).await else { return told };
        let mut random = StdRng::seed_from_u64(self.seed);
        while !shared.stops.load(Ordering::Relaxed) {
            let mut maker = Maker {
                worker: self.number,
                random: &mut random,
                keys: &self.keys,
                next_name: &mut told.next_name,
            };
            let work = maker.work(&told.before);
            if !self.work(&client, work, &mut told, &shared).await {
                break;
            }
        }
        told
    }

    /// Does it. False if there is no server any more.
    async fn work(&self, client: &Client, work: Work, told: &mut Told, shared: &Shared) -> bool {
        let last = work.statements.len() - 1;
        for (at, sql) in work.statements.iter().enumerate() {
            let failure = match ask(client, sql).await {
                Ok(()) => continue,
                Err(failure) => failure,
            };
            match failure {
                Failure::Gone => {
                    told.after = (at == last).then_some(work);
                    return false;
                }
                Failure::Hangs => {
                    told.complaint = Some(format!("no answer to {sql}"));
                    told.after = (at == last).then_some(work);
                    return false;
                }
                Failure::Refused(code, message) => {
                    if !self.is_expected(&code, &message) {
                        told.complaint = Some(format!("{code} {message}: {sql}"));
                        told.after = (at == last).then_some(work);
                        return false;
                    }
                    if self.errors_expected && at == last && is_unclear(&code) {
                        told.after = Some(work);
                        return false;
                    }
                }
            }
            // Nothing of it is there.
            return last == 0 || ask(client, "ROLLBACK").await.is_ok();
        }
        if shared.is_cut.load(Ordering::SeqCst) {
            told.after = Some(work);
            return false;
        }
        told.before = work.after;
        shared.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Losing against another transaction, or the loss of a disk or node.
    fn is_expected(&self, code: &str, message: &str) -> bool {
        let is_conflict = code == "40P01" || code == "XX000" && message.contains("1023");
        is_conflict || self.errors_expected
    }
}

/// Whether nobody knows what has become of what was asked: the disk failed under the commit.
fn is_unclear(code: &str) -> bool {
    matches!(code, "58030" | "XX000" | "XX001" | "53100" | "57P03")
}

async fn ask(client: &Client, sql: &str) -> Result<(), Failure> {
    match tokio::time::timeout(ANSWER_WITHIN, client.batch_execute(sql)).await {
        Ok(asked) => Ok(asked?),
        Err(_) => Err(Failure::Hangs),
    }
}

/// What a session sees of `progress`, again and again: nobody may see what can still be lost.
pub(crate) async fn observe(address: Config, shared: Arc<Shared>) -> BTreeMap<usize, i64> {
    let mut seen = BTreeMap::new();
    let Ok(client) = connect(&address).await else { return seen };
    while !shared.stops.load(Ordering::Relaxed) {
        let Ok(steps) = steps(&client).await else { break };
        if shared.is_cut.load(Ordering::SeqCst) {
            break;
        }
        seen = steps;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    seen
}

/// The steps of all workers.
pub(crate) async fn steps(client: &Client) -> Result<BTreeMap<usize, i64>, String> {
    let rows = rows(client, "SELECT w, step FROM progress").await?;
    Ok(rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect())
}

/// The names of a worker's tables.
async fn names(client: &Client, worker: usize) -> Result<Vec<String>, String> {
    let sql = format!(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE 'w{worker}\\_%'"
    );
    Ok(rows(client, &sql).await?.into_iter().map(|mut row| row.remove(0)).collect())
}

/// What the server has of a worker's tables.
///
/// # Errors
/// Tells of an error of the server, and of rows that nobody wrote.
pub(crate) async fn look(client: &Client, worker: usize, told: &Told) -> Result<Model, String> {
    let mut found = Model { step: steps(client).await?[&worker], ..Model::default() };
    let mut names = names(client, worker).await?;
    names.push(SHARED.to_owned());
    for name in names {
        let known = told.before.tables.get(&name);
        let known = known.or_else(|| told.after.as_ref()?.after.tables.get(&name));
        let most = told.after.as_ref().and_then(|work| work.after.tables.get(&name));
        // A column more than is known may be there.
        let most = most.map_or(0, |table| table.added).max(known.map_or(0, |table| table.added));
        let table = look_at(client, worker, &name, most).await?;
        found.tables.insert(name, table);
    }
    Ok(found)
}

async fn look_at(
    client: &Client,
    worker: usize,
    name: &str,
    added_most: usize,
) -> Result<Table, String> {
    let own = if name == SHARED { format!(" WHERE w = {worker}") } else { String::new() };
    for added in (0..=added_most).rev() {
        let columns: String = (0..added).map(|number| format!(", c{number}")).collect();
        let sql = format!("SELECT n, v, s{columns} FROM {name}{own}");
        let rows = match rows(client, &sql).await {
            Ok(rows) => rows,
            Err(error) if added > 0 && error.starts_with("42703") => continue,
            Err(error) => return Err(format!("{error}: {sql}")),
        };
        let mut table = Table { added, ..Table::default() };
        for row in rows {
            let key: i64 = number(&row[0]);
            let values = (number(&row[1]), number(row[2].trim_start_matches('s')));
            for (at, value) in row[3..].iter().enumerate() {
                if *value != at.to_string() {
                    return Err(format!("{name} has {value} in the column that is always {at}"));
                }
            }
            if table.rows.insert(key, values).is_some() {
                return Err(format!("{name} has the row {key} twice"));
            }
        }
        return Ok(table);
    }
    unreachable!("without further columns it returns")
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The rows of a query, each value as text.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, String> {
    let asked = tokio::time::timeout(ANSWER_WITHIN, client.simple_query(sql)).await;
    let messages = match asked {
        Ok(Ok(messages)) => messages,
        Ok(Err(error)) => {
            return Err(match error.as_db_error() {
                Some(error) => format!("{} {}", error.code().code(), error.message()),
                None => format!("gone: {error}"),
            });
        }
        Err(_) => return Err(format!("no answer to {sql}")),
    };
    let values = |message: SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    };
    Ok(messages.into_iter().filter_map(values).collect())
}
