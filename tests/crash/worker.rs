//! Sessions at work on a server that dies, and what they know afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use crate::model::{Maker, Model, SHARED, Table, Work};
use crate::round::WORKERS;
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
    /// What should not have happened, whenever it did.
    pub(crate) complaint: Option<String>,
    /// What is right only once something has died: when it happened, and what.
    pub(crate) troubles: Vec<(SystemTime, String)>,
}

impl Told {
    /// One who knows all of this model.
    pub(crate) fn new(before: Model, next_name: u32) -> Told {
        Told { before, after: None, next_name, complaint: None, troubles: Vec::new() }
    }
}

/// How a statement failed.
pub(crate) enum Failure {
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
            Some(error) => {
                Failure::Refused(error.code().code().to_owned(), error.message().to_owned())
            }
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
}

impl Worker {
    /// Works until it is told to stop or the server is gone.
    pub(crate) async fn run(self, address: Config, shared: Arc<Shared>) -> Told {
        let mut told = Told::new(self.model.clone(), self.next_name);
        let client = match connect(&address).await {
            Ok(client) => client,
            Err(error) => {
                told.troubles.push((SystemTime::now(), format!("no session: {error}")));
                return told;
            }
        };
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
                    told.troubles.push((SystemTime::now(), format!("a session ended: {sql}")));
                    told.after = (at == last).then_some(work);
                    return false;
                }
                Failure::Hangs => {
                    told.complaint = Some(format!("no answer to {sql}"));
                    told.after = (at == last).then_some(work);
                    return false;
                }
                Failure::Refused(code, message) => {
                    if !is_conflict(&code, &message) {
                        told.troubles.push((SystemTime::now(), format!("{code} {message}: {sql}")));
                    }
                    if at == last && is_unclear(&code) {
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
}

/// Losing against another transaction.
pub(crate) fn is_conflict(code: &str, message: &str) -> bool {
    code == "40P01" || (code, message) == ("XX000", "1023")
}

/// Whether the server says that nobody knows what has become of what was asked: the disk failed under
/// the commit, or another leader has taken over. Every other error means that nothing of it is there.
pub(crate) fn is_unclear(code: &str) -> bool {
    matches!(code, "08007" | "57P03")
}

pub(crate) async fn ask(client: &Client, sql: &str) -> Result<(), Failure> {
    match tokio::time::timeout(ANSWER_WITHIN, client.batch_execute(sql)).await {
        Ok(asked) => Ok(asked?),
        Err(_) => Err(Failure::Hangs),
    }
}

/// What a session sees of `progress`, again and again: nobody may see what can still be lost.
pub(crate) async fn observe(address: Config, shared: Arc<Shared>) -> Observed {
    let mut observed = Observed::default();
    let Ok(client) = connect(&address).await else { return observed };
    while !shared.stops.load(Ordering::Relaxed) {
        let steps = match steps(&client).await {
            Ok(steps) => steps,
            Err(error) => {
                observed.trouble = Some((SystemTime::now(), error));
                break;
            }
        };
        if shared.is_cut.load(Ordering::SeqCst) {
            break;
        }
        for (worker, step) in &steps {
            let before = observed.steps.get(worker).copied().unwrap_or(0);
            if *step < before {
                observed.complaint = Some(format!("worker {worker} went from {before} to {step}"));
            }
        }
        observed.steps = steps;
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    observed
}

/// What a session has seen that only reads.
#[derive(Default)]
pub(crate) struct Observed {
    pub(crate) steps: BTreeMap<usize, i64>,
    pub(crate) complaint: Option<String>,
    pub(crate) trouble: Option<(SystemTime, String)>,
}

/// The steps of all workers; each has one row.
pub(crate) async fn steps(client: &Client) -> Result<BTreeMap<usize, i64>, String> {
    let rows = rows(client, "SELECT w, step FROM progress").await?;
    let steps: BTreeMap<usize, i64> =
        rows.iter().map(|row| (number(&row[0]), number(&row[1]))).collect();
    if steps.len() != rows.len() || rows.len() != WORKERS {
        return Err(format!("progress holds {rows:?}"));
    }
    Ok(steps)
}

/// The number of rows of all workers in the shared table, as it is counted and as they are read.
pub(crate) async fn shared_rows(client: &Client) -> Result<(u64, u64), String> {
    let counted = rows(client, &format!("SELECT count(*) FROM {SHARED}")).await?;
    let read = rows(client, &format!("SELECT w, n FROM {SHARED}")).await?;
    Ok((number(&counted[0][0]), read.len() as u64))
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
pub(crate) async fn look(client: &Client, worker: usize) -> Result<Model, String> {
    let mut found = Model { step: steps(client).await?[&worker], ..Model::default() };
    let mut names = names(client, worker).await?;
    names.push(SHARED.to_owned());
    for name in names {
        let table = look_at(client, worker, &name).await?;
        found.tables.insert(name, table);
    }
    Ok(found)
}

async fn look_at(client: &Client, worker: usize, name: &str) -> Result<Table, String> {
    let (own, first) = match name {
        SHARED => (format!(" WHERE w = {worker}"), 1),
        _ => (String::new(), 0),
    };
    let columns = columns(client, name).await?;
    let added = columns.len().checked_sub(3 + first).ok_or("columns are missing")?;
    let known = ["n", "v", "s"].map(str::to_owned).into_iter();
    let expected = known.chain((0..added).map(|number| format!("c{number}")));
    if !expected.eq(columns[first..].iter().cloned()) {
        return Err(format!("{name} has the columns {columns:?}"));
    }
    let rows = rows(client, &format!("SELECT * FROM {name}{own}")).await?;
    let counted = self::rows(client, &format!("SELECT count(*) FROM {name}{own}")).await?;
    if counted[0][0] != rows.len().to_string() {
        return Err(format!("{name} has {} rows and counts {counted:?}", rows.len()));
    }
    let mut table = Table { added, ..Table::default() };
    for row in rows {
        let row = &row[first..];
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
    Ok(table)
}

/// The names of a table's columns.
async fn columns(client: &Client, name: &str) -> Result<Vec<String>, String> {
    let sql = format!("SELECT * FROM {name} LIMIT 0");
    let described = client.prepare(&sql).await.map_err(|error| format!("{error:?}: {sql}"))?;
    Ok(described.columns().iter().map(|column| column.name().to_owned()).collect())
}

/// A number in a text.
pub(crate) fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// The rows of a query, each value as text.
pub(crate) async fn rows(client: &Client, sql: &str) -> Result<Vec<Vec<String>>, String> {
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
