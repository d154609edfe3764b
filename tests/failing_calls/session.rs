//! One client of the server, and what it makes of each answer.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::case::{Case, SYNC_FAILED, UNKNOWN};
use crate::model::{Effect, Model, MustFail, Row};
use crate::scenario::{Step, TABLES};
use crate::server::Server;

/// Far more than any statement here takes, and more than a cluster waits for a node that is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A node that comes back is asked within half a minute what it has.
const COPIED_WITHIN: Duration = Duration::from_secs(90);

/// How a statement ended.
enum Answer {
    Done(Vec<Row>),
    /// SQLSTATE and message.
    Refused(String, String),
    /// No answer: the session is gone.
    Lost,
    Hung,
}

/// A client, what it was told, and what it found wrong.
pub(crate) struct Session<'a> {
    case: &'a Case,
    client: Option<Client>,
    /// What may be there: one model, or several after an answer that leaves it open.
    pub(crate) models: Vec<Model>,
    /// What a restart may find instead: a commit of which nobody knows. Until then it is not seen, and
    /// nothing more is written.
    in_doubt: Vec<Model>,
    /// A statement was told that a sync has failed; of a single node, no write may be taken then.
    is_fenced: bool,
    /// Whether a statement failed over the disk: an earlier failure may be why later ones fail.
    pub(crate) failures: Vec<String>,
    pub(crate) problems: Vec<String>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(case: &'a Case, models: Vec<Model>) -> Self {
        Session {
            case,
            client: None,
            models,
            in_doubt: vec![],
            is_fenced: false,
            failures: vec![],
            problems: vec![],
        }
    }

    /// Runs the steps, reading all tables after each, until the server is gone.
    pub(crate) async fn run(&mut self, server: &mut Server, steps: &[Step]) {
        for step in steps {
            if !self.connected(server).await {
                return;
            }
            match step {
                Step::Single(sql, effect) => self.single(sql, *effect).await,
                Step::Block(statements, effect) => self.block(statements, *effect).await,
            }
            if self.connected(server).await {
                self.compare().await;
            }
            if !self.problems.is_empty() {
                return;
            }
        }
    }

    /// Whether there is a session; makes a new one if the last was lost and the server lives.
    async fn connected(&mut self, server: &mut Server) -> bool {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return true;
        }
        self.client = None;
        // A process that is about to end closes its sessions first.
        for _ in 0..50 {
            if server.ended().is_some() {
                return false;
            }
            match server.connect().await {
                Ok(client) => {
                    self.client = Some(client);
                    return true;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        self.problem("the server lives and takes no session".to_owned());
        false
    }

    async fn single(&mut self, sql: &str, effect: Effect) {
        match self.ask(sql).await {
            Answer::Done(_) => self.done(sql, effect),
            Answer::Refused(code, message) => self.refused(sql, &code, &message, Some(effect)),
            Answer::Lost => self.either(effect),
            Answer::Hung => self.problem(format!("hang: {sql}")),
        }
    }

    async fn block(&mut self, statements: &[&str], effect: Effect) {
        for (index, sql) in statements.iter().enumerate() {
            let is_last = index + 1 == statements.len();
            match self.ask(sql).await {
                Answer::Done(_) if is_last => self.done(sql, effect),
                Answer::Done(_) => {}
                Answer::Refused(code, message) => {
                    self.refused(sql, &code, &message, is_last.then_some(effect));
                    if !is_last {
                        self.roll_back().await;
                    }
                    return;
                }
                Answer::Lost if is_last => self.either(effect),
                Answer::Lost => return,
                Answer::Hung => return self.problem(format!("hang: {sql}")),
            }
        }
    }

    async fn roll_back(&mut self) {
        match self.ask("ROLLBACK").await {
            Answer::Done(_) | Answer::Lost => {}
            Answer::Refused(code, message) => {
                self.problem(format!("ROLLBACK fails: {code} {message}"));
            }
            Answer::Hung => self.problem("hang: ROLLBACK".to_owned()),
        }
    }

    /// The statement has said that it is done.
    fn done(&mut self, sql: &str, effect: Effect) {
        let mut after = Vec::new();
        for model in &self.models {
            let mut model = model.clone();
            if effect(&mut model).is_ok() && !after.contains(&model) {
                after.push(model);
            }
        }
        if after.is_empty() {
            return self.problem(format!("false success: {sql}"));
        }
        if self.is_fenced && after != self.models {
            return self.problem(format!("a write after a sync has failed: {sql}"));
        }
        self.models = after;
    }

    /// No answer: it is done or it is not.
    fn either(&mut self, effect: Effect) {
        let after = self.applied(effect);
        self.models.extend(after);
    }

    /// What is there if it is done, where that is another thing.
    fn applied(&self, effect: Effect) -> Vec<Model> {
        let mut applied = Vec::new();
        for model in &self.models {
            let mut after = model.clone();
            if effect(&mut after).is_ok() && !self.models.contains(&after) {
                applied.push(after);
            }
        }
        applied
    }

    /// What a restart may find.
    pub(crate) fn after_restart(self) -> Vec<Model> {
        [self.models, self.in_doubt].concat()
    }

    fn refused(&mut self, sql: &str, code: &str, message: &str, effect: Option<Effect>) {
        if let Some(effect) = effect {
            let must_fail = |model: &Model| matches!(effect(&mut model.clone()), Err(MustFail));
            if code != "XX000" && self.models.iter().any(must_fail) {
                return;
            }
            if code == UNKNOWN && self.case.is_sync() {
                self.in_doubt.extend(self.applied(effect));
            }
        }
        let text = format!("{code} {message}");
        self.is_fenced |= self.case.fences() && [SYNC_FAILED, UNKNOWN].contains(&code);
        if !self.case.is_code(code) {
            self.problem(format!("wrong code: {sql}: {text}"));
        }
        self.failures.push(format!("{sql}: {text}"));
    }

    /// Reads all tables and keeps the models that agree. A read may fail once, over a call of its own.
    pub(crate) async fn compare(&mut self) {
        let mut found = Vec::new();
        for table in TABLES {
            let sql = format!("SELECT * FROM {table}");
            let mut answer = self.ask(&sql).await;
            if let Answer::Refused(code, message) = &answer
                && code != "42P01"
            {
                let text = format!("{sql}: {code} {message}");
                if !self.case.is_code(code) {
                    return self.problem(format!("wrong code: {text}"));
                }
                self.failures.push(text);
                if self.case.is_sticky() {
                    continue;
                }
                answer = self.ask(&sql).await;
            }
            match answer {
                Answer::Done(mut rows) => {
                    rows.sort_unstable();
                    found.push((table, Some(rows)));
                }
                Answer::Refused(code, _) if code == "42P01" => found.push((table, None)),
                Answer::Refused(code, message) => {
                    return self.problem(format!("cannot read: {sql}: {code} {message}"));
                }
                Answer::Lost => return,
                Answer::Hung => return self.problem(format!("hang: {sql}")),
            }
        }
        let agrees = |model: &Model| found.iter().all(|(table, rows)| model.sorted(table) == *rows);
        if self.models.iter().any(agrees) {
            self.models.retain(agrees);
        } else {
            let expected: Vec<_> = TABLES.map(|table| self.models[0].sorted(table)).into();
            self.problem(format!("other rows: found {found:?}, expected {expected:?}"));
        }
    }

    /// Waits until each node has again what it shall have.
    pub(crate) async fn wait_for_copies(&mut self) {
        let lacking = "SELECT count(*) FROM stv_blueshift_replication \
                       WHERE under_replicated > 0 OR state <> 'whole'";
        let deadline = Instant::now() + COPIED_WITHIN;
        while Instant::now() < deadline {
            if let Answer::Done(rows) = self.ask(lacking).await
                && rows == [["0"]]
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.problem("copies are not made again".to_owned());
    }

    async fn ask(&mut self, sql: &str) -> Answer {
        let Some(client) = &self.client else { return Answer::Lost };
        match tokio::time::timeout(ANSWER_WITHIN, client.simple_query(sql)).await {
            Err(_) => Answer::Hung,
            Ok(Ok(messages)) => Answer::Done(messages.iter().filter_map(row_of).collect()),
            Ok(Err(error)) => match error.as_db_error() {
                // A session that is told to go.
                Some(error) if error.code().code() == "57P01" => Answer::Lost,
                Some(error) => {
                    let detail = error.detail().unwrap_or_default();
                    let message = format!("{} {detail}", error.message());
                    Answer::Refused(error.code().code().to_owned(), message)
                }
                None => Answer::Lost,
            },
        }
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }
}

fn row_of(message: &SimpleQueryMessage) -> Option<Row> {
    match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).unwrap_or("NULL").to_owned()).collect())
        }
        _ => None,
    }
}
