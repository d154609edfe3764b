//! One client of the server, and what it makes of each answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::case::Case;
use crate::codes::{FailedCall, UNDEFINED_TABLE, UNKNOWN};
use crate::control::Control;
use crate::model::{Effect, Model, MustFail, Row};
use crate::scenario::{Step, TABLES};
use crate::server::Server;

/// Far more than any statement here takes, and more than a cluster waits for a node that is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A node that comes back is asked within half a minute what it has.
const COPIED_WITHIN: Duration = Duration::from_secs(90);

/// A process that is about to end closes its sessions first.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// How a statement ended.
enum Answer {
    Done(Vec<Row>),
    /// SQLSTATE and message.
    Refused(String, String),
    /// No answer: the server has ended.
    Lost,
    /// What is said of it already is enough.
    Wrong,
}

/// A client, what it was told, and what it found wrong.
pub(crate) struct Session<'a> {
    case: &'a Case,
    control: &'a Control,
    pub(crate) server: Server,
    client: Option<Client>,
    /// What may be there: one model, or several after an answer that leaves it open.
    pub(crate) models: Vec<Model>,
    /// What a restart may find instead: a commit of which nobody knows. Until then it is not seen, and
    /// nothing more is written.
    in_doubt: Vec<Model>,
    /// A statement was told that no write is taken any more.
    is_fenced: bool,
    /// Tables that may have files which nobody has read since they were written. Of all others the
    /// rows are in memory, and no call on a file keeps them from being read.
    unread: BTreeSet<&'static str>,
    /// Statements and reads that failed over the call.
    pub(crate) failures: Vec<Refusal>,
    pub(crate) problems: Vec<String>,
}

/// What a statement was refused with.
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) text: String,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        case: &'a Case,
        control: &'a Control,
        server: Server,
        models: Vec<Model>,
    ) -> Self {
        Session {
            case,
            control,
            server,
            client: None,
            models,
            in_doubt: vec![],
            is_fenced: false,
            unread: BTreeSet::from(TABLES),
            failures: vec![],
            problems: vec![],
        }
    }

    /// Runs the steps, reading all tables after each, until the server is gone.
    pub(crate) async fn run(&mut self, steps: &[Step]) {
        for step in steps {
            if !self.connected().await {
                return;
            }
            match step {
                Step::Single(sql, effect) => self.single(sql, *effect).await,
                Step::Block(statements, effect) => self.block(statements, *effect).await,
            }
            if self.problems.is_empty() && self.connected().await {
                self.compare().await;
            }
            if !self.problems.is_empty() {
                return;
            }
        }
    }

    /// Whether no write may be taken.
    pub(crate) fn must_be_fenced(&self) -> bool {
        self.is_fenced || self.failed().is_some_and(|call| self.case.fences(&call))
    }

    fn failed(&self) -> Option<FailedCall> {
        self.control.failed(self.case)
    }

    /// Whether there is a session; makes one at first.
    async fn connected(&mut self) -> bool {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return true;
        }
        if self.client.take().is_some() {
            self.expect_end("the connection is lost").await;
            return false;
        }
        match self.server.connect().await {
            Ok(client) => {
                self.client = Some(client);
                true
            }
            Err(error) => {
                self.expect_end(&format!("no session: {error}")).await;
                false
            }
        }
    }

    /// Sees that the server ends, which alone may end a session.
    async fn expect_end(&mut self, what: &str) {
        let deadline = Instant::now() + ENDED_WITHIN;
        while self.server.ended().is_none() {
            if Instant::now() > deadline {
                return self.problem(format!("{what}, and the server lives"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn single(&mut self, sql: &str, effect: Effect) {
        let fenced = self.must_be_fenced();
        match self.ask(sql).await {
            Answer::Done(_) => self.done(sql, effect, fenced),
            Answer::Refused(code, message) => self.refused(sql, &code, &message, Some(effect)),
            Answer::Lost => self.either(effect),
            Answer::Wrong => {}
        }
    }

    async fn block(&mut self, statements: &[&str], effect: Effect) {
        for (index, sql) in statements.iter().enumerate() {
            let is_last = index + 1 == statements.len();
            let fenced = self.must_be_fenced();
            match self.ask(sql).await {
                Answer::Done(_) if is_last => self.done(sql, effect, fenced),
                Answer::Done(_) => {}
                Answer::Refused(code, message) => {
                    self.refused(sql, &code, &message, is_last.then_some(effect));
                    if !is_last {
                        self.roll_back().await;
                    }
                    return;
                }
                Answer::Lost if is_last => self.either(effect),
                Answer::Lost | Answer::Wrong => return,
            }
        }
    }

    async fn roll_back(&mut self) {
        if let Answer::Refused(code, message) = self.ask("ROLLBACK").await {
            self.problem(format!("ROLLBACK fails: {code} {message}"));
        }
    }

    /// The statement has said that it is done.
    fn done(&mut self, sql: &str, effect: Effect, was_fenced: bool) {
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
        if was_fenced && after != self.models {
            return self.problem(format!("a write after a sync has failed: {sql}"));
        }
        self.unread = BTreeSet::from(TABLES);
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
    pub(crate) fn after_restart(&self) -> Vec<Model> {
        [self.models.as_slice(), &self.in_doubt].concat()
    }

    /// The statement was refused. `effect` is what it does if it commits.
    fn refused(&mut self, sql: &str, code: &str, message: &str, effect: Option<Effect>) {
        if sql.starts_with("VACUUM") {
            // Of the tables that it came to.
            self.unread = BTreeSet::from(TABLES);
        }
        if let Some(effect) = effect {
            let must_fail = |model: &Model| matches!(effect(&mut model.clone()), Err(MustFail));
            // Something that it names is not there, or is.
            if code.starts_with("42") && self.models.iter().any(must_fail) {
                return;
            }
            if code == UNKNOWN {
                self.in_doubt.extend(self.applied(effect));
            }
        }
        let text = format!("{sql}: {code} {message}");
        let Some(call) = self.failed() else {
            return self.problem(format!("refused, and no call has failed: {text}"));
        };
        let is_right = match self.is_fenced {
            true => self.case.is_code_of_fenced(code),
            false => self.case.is_code(&call, effect.is_some(), code),
        };
        if !is_right {
            self.problem(format!("wrong code: {text}"));
        }
        self.is_fenced |= self.case.fences(&call) || self.case.is_fence(&call, code);
        if !self.is_fenced && !self.case.is_sticky() && !self.failures.is_empty() {
            self.problem(format!("one call has failed, and fails another statement: {text}"));
        }
        self.failures.push(Refusal { code: code.to_owned(), text });
    }

    /// Reads all tables and keeps the models that agree.
    pub(crate) async fn compare(&mut self) {
        let mut found = Vec::new();
        for table in TABLES {
            let sql = format!("SELECT * FROM {table}");
            let mut answer = self.ask(&sql).await;
            if let Answer::Refused(code, message) = &answer
                && code != UNDEFINED_TABLE
            {
                let text = format!("{sql}: {code} {message}");
                let may_go_on_failing = self.read_refused(table, code, text);
                if !self.problems.is_empty() {
                    return;
                }
                if may_go_on_failing {
                    continue;
                }
                answer = self.ask(&sql).await;
            }
            match answer {
                Answer::Done(mut rows) => {
                    rows.sort_unstable();
                    self.unread.remove(table);
                    found.push((table, Some(rows)));
                }
                Answer::Refused(code, _) if code == UNDEFINED_TABLE => found.push((table, None)),
                Answer::Refused(code, message) => {
                    return self.problem(format!("cannot read: {sql}: {code} {message}"));
                }
                Answer::Lost | Answer::Wrong => return,
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

    /// A read was refused: it may meet the call that fails once, or for as long as calls fail if
    /// nothing in memory has the rows. Answers whether it may go on so.
    fn read_refused(&mut self, table: &str, code: &str, text: String) -> bool {
        let Some(call) = self.failed() else {
            self.problem(format!("refused, and no call has failed: {text}"));
            return false;
        };
        let goes_on = self.case.closes_all_nodes()
            || self.case.keeps_from_reading() && self.unread.contains(table);
        let is_first = self.case.is_of_reads() && self.failures.is_empty();
        if !goes_on && !is_first {
            self.problem(format!("cannot read: {text}"));
        }
        if !self.case.is_code(&call, false, code) {
            self.problem(format!("wrong code: {text}"));
        }
        self.failures.push(Refusal { code: code.to_owned(), text });
        goes_on
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
            Err(_) => {
                self.problem(format!("hang: {sql}"));
                Answer::Wrong
            }
            Ok(Ok(messages)) => Answer::Done(messages.iter().filter_map(row_of).collect()),
            Ok(Err(error)) => match error.as_db_error() {
                // A session that is told to go.
                Some(error) if error.code().code() == "57P01" => self.lost(sql).await,
                Some(error) => {
                    let detail = error.detail().unwrap_or_default();
                    let message = format!("{} {detail}", error.message());
                    Answer::Refused(error.code().code().to_owned(), message)
                }
                None => self.lost(sql).await,
            },
        }
    }

    async fn lost(&mut self, sql: &str) -> Answer {
        self.client = None;
        self.expect_end(&format!("no answer: {sql}")).await;
        if self.problems.is_empty() { Answer::Lost } else { Answer::Wrong }
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
