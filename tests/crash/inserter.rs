//! Sessions that insert one row after the other into one table, at the same time, so that their commits
//! are written to the log together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio_postgres::{Client, Config};

use crate::server::connect;
use crate::worker::{Failure, Shared, ask, is_conflict, is_unclear, number, rows};

/// Sessions that insert.
pub(crate) const INSERTERS: usize = 6;
/// Their table.
pub(crate) const INSERTED: &str = "inserted";

/// What an inserter knows when it stops: it has inserted the numbers from 1 on.
#[derive(Debug, Default)]
pub(crate) struct Inserted {
    /// The last one that was acknowledged.
    pub(crate) acknowledged: i64,
    /// Whether it does not know of the next one.
    pub(crate) is_unclear: bool,
    /// What should not have happened, whenever it did.
    pub(crate) complaint: Option<String>,
    /// The first that is right only once something has died: when it happened, and what.
    pub(crate) trouble: Option<(SystemTime, String)>,
}

/// Inserts until it is told to stop or the server is gone.
pub(crate) async fn insert(
    inserter: usize,
    acknowledged: i64,
    address: Config,
    shared: Arc<Shared>,
) -> Inserted {
    let mut told = Inserted { acknowledged, ..Inserted::default() };
    let client = match connect(&address).await {
        Ok(client) => client,
        Err(error) => {
            told.note(format!("no session: {error}"));
            return told;
        }
    };
    while !shared.stops.load(Ordering::Relaxed) {
        let next = told.acknowledged + 1;
        let sql = format!("INSERT INTO {INSERTED} VALUES ({inserter}, {next})");
        match ask(&client, &sql).await {
            Ok(()) if shared.is_cut.load(Ordering::SeqCst) => told.is_unclear = true,
            Ok(()) => {
                told.acknowledged = next;
                shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Err(Failure::Gone) => {
                told.note(format!("a session ended: {sql}"));
                told.is_unclear = true;
            }
            Err(Failure::Hangs) => told.complaint = Some(format!("no answer to {sql}")),
            Err(Failure::Refused(code, message)) => {
                if !is_conflict(&code, &message) {
                    told.note(format!("{code} {message}: {sql}"));
                }
                told.is_unclear = is_unclear(&code);
                if !told.is_unclear {
                    continue;
                }
            }
        }
        break;
    }
    told
}

impl Inserted {
    /// The first trouble is the one that may have come too early.
    fn note(&mut self, trouble: String) {
        self.trouble.get_or_insert_with(|| (SystemTime::now(), trouble));
    }

    /// Compares what is there with what was told; what is there is what the next round begins with.
    /// Whether the row whose end it did not know is there, if there was one.
    ///
    /// # Errors
    /// Tells what is wrong.
    pub(crate) async fn compare(
        &mut self,
        client: &Client,
        inserter: usize,
    ) -> Result<Option<bool>, String> {
        let sql = format!(
            "SELECT count(*), count(DISTINCT n), coalesce(min(n), 1), coalesce(max(n), 0)
             FROM {INSERTED} WHERE w = {inserter}"
        );
        let found: Vec<i64> = rows(client, &sql).await?[0].iter().map(|n| number(n)).collect();
        let last = found[0];
        let is_next_there = last == self.acknowledged + 1;
        let may_be = last == self.acknowledged || is_next_there && self.is_unclear;
        if found != [last, last, 1, last] || !may_be {
            return Err(format!("inserter {inserter}: {found:?} is there, after {self:?}"));
        }
        let unclear = self.is_unclear.then_some(is_next_there);
        *self = Self { acknowledged: last, ..Self::default() };
        Ok(unclear)
    }
}
