//! Who is connected and what they run, and what they ran lately: the ground for `stv_sessions`,
//! `stv_recents`, `stv_inflight`, `stl_query` and `svl_qlog`, and for connection limits.
//!
//! Nothing is written down: a restart forgets all. Texts come from the parser without passwords and
//! keys, and are cut to [`TEXT_CHARACTERS_MAX`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use wlm::QueryId;

use crate::error::{Error, Result, code};
use crate::session::Clock;

/// The longest text of a statement that is kept, as in `stl_query`.
pub const TEXT_CHARACTERS_MAX: usize = 4_000;
/// Statements that ended and are still shown in `stv_recents`.
const RECENTS_MAX: usize = 500;
/// Queries that ended and are still shown in `stl_query` and `svl_qlog`.
const QUERIES_MAX: usize = 5_000;

/// A session.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// The number by which `pg_cancel_backend` and the like name it.
    pub process_id: i32,
    /// The user's number.
    pub user: u32,
    /// The user's name.
    pub user_name: String,
    /// The database.
    pub database: String,
    /// When it began, microseconds since 1970.
    pub started_us: i64,
    /// How long it may be idle, seconds; 0 is for ever.
    pub timeout_seconds: u64,
}

/// A statement that runs or ran.
#[derive(Debug, Clone)]
pub struct StatementRow {
    /// Whose session it is.
    pub process_id: i32,
    /// The user's number.
    pub user: u32,
    /// The user's name.
    pub user_name: String,
    /// The database.
    pub database: String,
    /// The transaction it began in.
    pub xid: u64,
    /// `query_group`.
    pub label: String,
    /// Its text, without secrets.
    pub text: Arc<str>,
    /// When it began, microseconds since 1970.
    pub started_us: i64,
    /// When it ended.
    pub ended_us: Option<i64>,
    /// Its number, if it is a query that compute nodes work on.
    pub query: Option<QueryId>,
    /// It did not run to its end.
    pub aborted: bool,
}

/// All sessions and statements.
pub struct Activity {
    clock: Clock,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    sessions: BTreeMap<i32, SessionRow>,
    running: BTreeMap<u64, StatementRow>,
    recents: VecDeque<StatementRow>,
    queries: VecDeque<StatementRow>,
    next: u64,
    last_query: BTreeMap<i32, QueryId>,
}

impl Activity {
    /// Nobody is there yet.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self { clock, inner: Mutex::default() })
    }

    /// Enters a session, unless its user has `limit` of them already.
    ///
    /// # Errors
    /// 53300 if it has.
    pub fn open_session(
        self: &Arc<Self>,
        session: SessionRow,
        limit: Option<u32>,
    ) -> Result<SessionGuard> {
        let mut inner = self.inner.lock();
        let own = inner.sessions.values().filter(|known| known.user == session.user).count();
        if let Some(limit) = limit
            && own >= limit as usize
        {
            let name = &session.user_name;
            let message = format!("connection limit \"{limit}\" exceeded for user \"{name}\"");
            return Err(Error::statement(code::TOO_MANY_CONNECTIONS, message));
        }
        let process_id = session.process_id;
        inner.sessions.insert(process_id, session);
        Ok(SessionGuard { activity: Arc::clone(self), process_id })
    }

    /// Enters a statement; it ends when the guard is dropped.
    pub fn begin(self: &Arc<Self>, statement: StatementRow) -> Arc<StatementGuard> {
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.running.insert(number, statement);
        Arc::new(StatementGuard { activity: Arc::clone(self), number })
    }

    /// All sessions, by process id.
    pub fn sessions(&self) -> Vec<SessionRow> {
        self.inner.lock().sessions.values().cloned().collect()
    }

    /// The session with that process id.
    pub fn session(&self, process_id: i32) -> Option<SessionRow> {
        self.inner.lock().sessions.get(&process_id).cloned()
    }

    /// Statements that run, the oldest first.
    pub fn running(&self) -> Vec<StatementRow> {
        self.inner.lock().running.values().cloned().collect()
    }

    /// Statements that have ended lately, the oldest first.
    pub fn recents(&self) -> Vec<StatementRow> {
        self.inner.lock().recents.iter().cloned().collect()
    }

    /// Queries that have ended, the oldest first.
    pub fn queries(&self) -> Vec<StatementRow> {
        self.inner.lock().queries.iter().cloned().collect()
    }

    /// The last query of a session.
    pub fn last_query(&self, process_id: i32) -> Option<QueryId> {
        self.inner.lock().last_query.get(&process_id).copied()
    }

    /// Now, microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        (self.clock)().timestamp_micros()
    }
}

/// A session is there for as long as this is.
pub struct SessionGuard {
    activity: Arc<Activity>,
    process_id: i32,
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        let mut inner = self.activity.inner.lock();
        inner.sessions.remove(&self.process_id);
        inner.last_query.remove(&self.process_id);
    }
}

/// A statement runs for as long as this is there. What was not completed by then was aborted.
pub struct StatementGuard {
    activity: Arc<Activity>,
    number: u64,
}

impl StatementGuard {
    /// It is a query with that number, as compute nodes know it; again after a restart.
    pub fn set_query(&self, query: QueryId) {
        let mut inner = self.activity.inner.lock();
        let Some(statement) = inner.running.get_mut(&self.number) else { return };
        statement.query = Some(query);
        let process_id = statement.process_id;
        inner.last_query.insert(process_id, query);
    }

    /// A restart: under its old number it was aborted.
    pub fn restarted(&self) {
        let now_us = self.activity.now_us();
        let mut inner = self.activity.inner.lock();
        let Some(statement) = inner.running.get(&self.number) else { return };
        let stopped = StatementRow { ended_us: Some(now_us), aborted: true, ..statement.clone() };
        push(&mut inner.queries, stopped, QUERIES_MAX);
    }

    /// It ran to its end.
    pub fn complete(&self) {
        if let Some(statement) = self.activity.inner.lock().running.get_mut(&self.number) {
            statement.aborted = false;
        }
    }
}

impl Drop for StatementGuard {
    fn drop(&mut self) {
        let now_us = self.activity.now_us();
        let mut inner = self.activity.inner.lock();
        let Some(mut statement) = inner.running.remove(&self.number) else { return };
        statement.ended_us = Some(now_us);
        if statement.query.is_some() {
            push(&mut inner.queries, statement.clone(), QUERIES_MAX);
        }
        push(&mut inner.recents, statement, RECENTS_MAX);
    }
}

fn push(rows: &mut VecDeque<StatementRow>, row: StatementRow, rows_max: usize) {
    if rows.len() >= rows_max {
        rows.pop_front();
    }
    rows.push_back(row);
}

/// The text of a statement, cut to what is kept.
pub fn cut(text: &str) -> Arc<str> {
    match text.char_indices().nth(TEXT_CHARACTERS_MAX) {
        Some((end, _)) => Arc::from(&text[..end]),
        None => Arc::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Arc<Activity> {
        Activity::new(Arc::new(chrono::Utc::now))
    }

    fn session(process_id: i32, user: u32) -> SessionRow {
        SessionRow {
            process_id,
            user,
            user_name: "ann".to_owned(),
            database: "dev".to_owned(),
            started_us: 0,
            timeout_seconds: 0,
        }
    }

    fn statement(text: &str) -> StatementRow {
        StatementRow {
            process_id: 1,
            user: 100,
            user_name: "ann".to_owned(),
            database: "dev".to_owned(),
            xid: 5,
            label: "default".to_owned(),
            text: cut(text),
            started_us: 0,
            ended_us: None,
            query: None,
            aborted: true,
        }
    }

    #[test]
    fn a_user_has_no_more_sessions_than_allowed() {
        let activity = activity();
        let first = activity.open_session(session(1, 100), Some(1)).unwrap();
        let refused = activity.open_session(session(2, 100), Some(1)).err().unwrap();
        assert_eq!(refused.to_string(), "connection limit \"1\" exceeded for user \"ann\"");
        let _other = activity.open_session(session(3, 101), Some(1)).unwrap();
        drop(first);
        let _again = activity.open_session(session(2, 100), Some(1)).unwrap();
        assert_eq!(activity.sessions().len(), 2);
    }

    #[test]
    fn statements_go_from_running_to_recent() {
        let activity = activity();
        let query = activity.begin(statement("select 1"));
        query.set_query(QueryId(7));
        let command = activity.begin(statement("set x to y"));
        assert_eq!(activity.running().len(), 2);
        query.complete();
        drop((query, command));
        assert!(activity.running().is_empty());
        let ended: Vec<_> = activity.recents().iter().map(|row| row.aborted).collect();
        assert_eq!(ended, [false, true]);
        assert_eq!(activity.queries().len(), 1);
        assert_eq!(activity.last_query(1), Some(QueryId(7)));
    }

    #[test]
    fn history_is_bounded() {
        let activity = activity();
        for _ in 0..RECENTS_MAX + 10 {
            drop(activity.begin(statement(&"x".repeat(TEXT_CHARACTERS_MAX + 1))));
        }
        assert_eq!(activity.recents().len(), RECENTS_MAX);
        assert_eq!(activity.recents()[0].text.len(), TEXT_CHARACTERS_MAX);
    }
}
