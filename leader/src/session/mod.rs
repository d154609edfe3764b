//! One client's session: its settings, its transaction, its prepared statements. The wire drives
//! it through [`WireSession`]; statements work on it through the methods below.
//!
//! The states of its transaction:
//!
//! ```text
//!            begin_implicit          BEGIN           error
//!   Idle ------------------> Implicit -----> Block ----------> Failed
//!    ^                          |            |   ^               | |
//!    +---- end_implicit --------+            |   +- ROLLBACK TO -+ |
//!    +------------------- COMMIT, ROLLBACK --+---------------------+
//! ```
//!
//! A failed block keeps its transaction only where there is a savepoint to go back to.

pub mod alone;
pub mod binding;
mod cursor;
mod isolation;
mod permission;
mod place;
mod savepoint;
pub mod settings;
pub(crate) mod temporary;
mod wire;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::DataType;
use sql::statement::{Statement, TableName, TransactionModes};
use storage::ids::Xid;

use crate::activity::{SessionGuard, SessionRow};
use crate::catalog::change::undefined_schema;
use crate::catalog::system::{PG_CATALOG, is_system_table};
use crate::catalog::user::undefined;
use crate::catalog::{DistributionStyle, Snapshot, TableEntry, UserEntry};
use crate::engine::{DATABASE, Engine};
use crate::error::{Error, Result, code};
use crate::pgwire::backend::{Deallocation, ImplicitExtent, Startup};
use crate::pgwire::report::{Report, Severity};
use crate::transaction::Transaction;
use crate::transaction::conflicts::ConflictRow;
use crate::transaction::lock::LockMode;
use binding::Binding;
use cursor::Cursors;
use place::{Claims, Current};
use savepoint::SavepointSettings;
use settings::{SetEffect, Settings};

/// The source of time, passed in so that sessions can be tested at any instant.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// A parsed statement, cheap to share.
#[derive(Debug)]
pub struct SessionStatement {
    /// What it is.
    pub statement: Statement,
    /// The parameter types that the client declared.
    pub parameter_types: Vec<Option<DataType>>,
    /// Its text as others may see it.
    pub shown: Arc<str>,
}

impl SessionStatement {
    /// A part of another statement.
    pub fn part(statement: Statement) -> Self {
        Self { statement, parameter_types: Vec::new(), shown: "".into() }
    }
}

/// A statement that PREPARE named.
#[derive(Debug, Clone)]
pub struct NamedStatement {
    /// The statement with its parameter types.
    pub statement: Arc<SessionStatement>,
}

#[derive(Debug)]
enum State {
    Idle,
    Implicit(Box<Transaction>),
    Block(Box<Transaction>),
    Failed(Option<Box<Transaction>>),
}

/// One client's session.
pub struct Session {
    engine: Arc<Engine>,
    clock: Clock,
    user: String,
    user_oid: u32,
    process_id: i32,
    settings: Settings,
    state: State,
    current: Current,
    claims: Claims,
    /// The session is there for as long as this is.
    _registered: SessionGuard,
    /// What ROLLBACK restores, and COMMIT where SET LOCAL changed it.
    settings_before: Settings,
    local_settings: Vec<String>,
    /// What ROLLBACK TO restores, for each savepoint.
    savepoint_settings: Vec<SavepointSettings>,
    cursors: Cursors,
    /// The name of its schema of temporary tables, once it has made one.
    temporary: Option<String>,
    /// How many statements the implicit transaction has.
    implicit: ImplicitExtent,
    /// The statement commits its transaction.
    commits_after_statement: bool,
    /// A configuration of workload management that is in force once the statement is committed.
    new_configuration: Option<wlm::Config>,
    transaction_start: DateTime<Utc>,
    notices: Vec<Report>,
    /// The ParameterStatus values that the client knows.
    told: BTreeMap<&'static str, String>,
    named: HashMap<String, NamedStatement>,
    deallocations: Vec<Deallocation>,
}

impl Session {
    /// A session for an authenticated user.
    pub fn open(engine: Arc<Engine>, startup: &Startup) -> Result<Self> {
        if startup.database != DATABASE {
            let message = format!("database \"{}\" does not exist", startup.database);
            return Err(Error::statement(code::UNDEFINED_DATABASE, message));
        }
        let clock = Arc::clone(&engine.clock);
        let now = clock();
        let snapshot = engine.transactions.snapshot();
        let user = snapshot.user(&startup.user).ok_or_else(|| undefined("user", &startup.user))?;
        let parameters = engine.parameters();
        let timeout_seconds =
            user.session_timeout.map_or(parameters.idle_session_timeout, u64::from);
        let registered = engine.activity.open_session(
            SessionRow {
                process_id: startup.process_id,
                user: user.oid,
                user_name: user.name.clone(),
                database: DATABASE.to_owned(),
                started_us: now.timestamp_micros(),
                timeout_seconds,
            },
            user.connection_limit.filter(|_| !user.superuser),
        )?;
        let mut session = Self {
            clock,
            user: startup.user.clone(),
            user_oid: user.oid,
            current: Current::default(),
            claims: Claims::default(),
            _registered: registered,
            process_id: startup.process_id,
            settings: Settings::default(),
            state: State::Idle,
            settings_before: Settings::default(),
            local_settings: Vec::new(),
            savepoint_settings: Vec::new(),
            cursors: Cursors::default(),
            temporary: None,
            implicit: ImplicitExtent::One,
            commits_after_statement: false,
            new_configuration: None,
            transaction_start: now,
            notices: Vec::new(),
            told: BTreeMap::new(),
            named: HashMap::new(),
            deallocations: Vec::new(),
            engine,
        };
        session.apply_startup(startup, user, timeout_seconds)?;
        Ok(session)
    }

    fn apply_startup(
        &mut self,
        startup: &Startup,
        user: &UserEntry,
        timeout_seconds: u64,
    ) -> Result<()> {
        let parameters = self.engine.parameters();
        let configured = [
            ("statement_timeout", parameters.statement_timeout),
            ("idle_session_timeout", timeout_seconds.saturating_mul(1000)),
            (
                "idle_in_transaction_session_timeout",
                parameters.idle_in_transaction_session_timeout.saturating_mul(1000),
            ),
        ];
        for (name, value) in configured {
            self.settings.set_initial(name, &value.to_string())?;
        }
        for (name, value) in &user.settings {
            self.settings.set_initial(name, value)?;
        }
        if let Some(name) = &startup.application_name {
            self.settings.set_initial("application_name", name)?;
        }
        for (name, value) in &startup.options {
            self.settings.set_initial(name, value)?;
        }
        Ok(())
    }

    /// What all sessions share.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The error as its client is told it: with the transaction's number, where it matters.
    pub fn named(&mut self, error: Error) -> Error {
        match self.transaction() {
            Ok(transaction) => {
                let xid = transaction.xid();
                self.told(error, xid)
            }
            Err(_) => error,
        }
    }

    /// The same for an error of that transaction. A conflict is remembered.
    fn told(&self, error: Error, xid: Xid) -> Error {
        if let Error::Conflict { table, .. } = &error {
            self.engine.conflicts.add(ConflictRow {
                xid,
                process_id: self.process_id,
                started_us: self.transaction_start.timestamp_micros(),
                aborted_us: (self.clock)().timestamp_micros(),
                table: *table,
            });
        }
        error.of_transaction(xid, self.process_id)
    }

    /// Who is connected.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's number.
    pub fn user_oid(&self) -> u32 {
        self.user_oid
    }

    /// The number of the transaction in progress; 0 if there is none.
    fn xid(&self) -> u64 {
        match &self.state {
            State::Implicit(transaction) | State::Block(transaction) => transaction.xid().0,
            State::Failed(Some(transaction)) => transaction.xid().0,
            State::Idle | State::Failed(None) => 0,
        }
    }

    /// The session's parameters.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// SET and SET LOCAL.
    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        if settings::is_transaction_isolation(name) {
            let isolation = Some(settings::isolation_level(name, value)?);
            return self.set_transaction(&TransactionModes { isolation, read_only: None });
        }
        if settings::is_read_only(name) && self.in_block() {
            let read_only = Some(settings::read_only_of(value)?);
            return self.set_transaction(&TransactionModes { isolation: None, read_only });
        }
        let effect = self.settings.set(name, value)?;
        if local {
            self.local_settings.push(name.to_ascii_lowercase());
        }
        if effect == SetEffect::NoEffect {
            let message = format!("parameter \"{name}\" is kept but has no effect");
            self.notice(Severity::Notice, message);
        }
        Ok(())
    }

    /// RESET.
    pub fn reset(&mut self, name: Option<&str>) -> Result<()> {
        match name {
            Some(name) => self.settings.reset(name),
            None => {
                self.settings.reset_all();
                Ok(())
            }
        }
    }

    /// Tells the client something with the next answer.
    pub fn notice(&mut self, severity: Severity, message: impl Into<String>) {
        self.notices.push(Report::new(severity, "00000", message));
    }

    /// The transaction that the current statement runs in.
    pub fn transaction(&mut self) -> Result<&mut Transaction> {
        match &mut self.state {
            State::Implicit(transaction) | State::Block(transaction) => Ok(transaction),
            State::Failed(_) => Err(failed_block()),
            State::Idle => Err(Error::Internal("a statement runs outside a transaction".into())),
        }
    }

    /// Refuses what cannot be undone, or sees more than one snapshot, among other statements.
    pub fn check_alone(&self, what: &str) -> Result<()> {
        let among_others = match &self.state {
            State::Block(_) | State::Failed(_) => true,
            State::Implicit(_) => self.implicit == ImplicitExtent::Several,
            State::Idle => false,
        };
        if among_others {
            let message = format!("{what} cannot run inside a transaction block");
            return Err(Error::statement(code::ACTIVE_SQL_TRANSACTION, message));
        }
        Ok(())
    }

    /// Whether the client is in a transaction block.
    pub fn in_block(&self) -> bool {
        matches!(self.state, State::Block(_) | State::Failed(_))
    }

    /// Refuses everything but the end of the block once a statement of it failed.
    pub fn check_not_failed(&self) -> Result<()> {
        match self.state {
            State::Failed(_) => Err(failed_block()),
            State::Idle | State::Implicit(_) | State::Block(_) => Ok(()),
        }
    }

    fn start_transaction(&mut self) {
        self.transaction_start = (self.clock)();
        self.settings_before = self.settings.clone();
        self.state = State::Implicit(self.new_transaction());
    }

    /// BEGIN.
    pub fn begin_block(&mut self, modes: &TransactionModes) {
        if matches!(self.state, State::Idle) {
            self.start_transaction();
        }
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Implicit(mut transaction) => {
                transaction.set_read_only(self.settings.read_only());
                self.apply_modes(&mut transaction, modes);
                self.state = State::Block(transaction);
            }
            already => {
                self.state = already;
                self.notice(Severity::Warning, "there is already a transaction in progress");
            }
        }
    }

    /// COMMIT. Answers with the command tag: a failed block is rolled back.
    pub async fn commit_block(&mut self) -> Result<&'static str> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Block(transaction) => {
                let committed = self.commit(*transaction).await;
                self.end_settings(committed.is_ok());
                committed.map(|()| "COMMIT")
            }
            State::Failed(transaction) => {
                self.cursors.end_transaction(false);
                drop(transaction);
                self.end_settings(false);
                Ok("ROLLBACK")
            }
            other @ (State::Idle | State::Implicit(_)) => {
                self.state = other;
                self.notice(Severity::Warning, "there is no transaction in progress");
                Ok("COMMIT")
            }
        }
    }

    /// ROLLBACK.
    pub fn rollback_block(&mut self) {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Block(transaction) | State::Failed(Some(transaction)) => {
                // What reads the transaction's own rows goes before their files can.
                self.cursors.end_transaction(false);
                drop(transaction);
                self.end_settings(false);
            }
            State::Failed(None) => self.end_settings(false),
            other @ (State::Idle | State::Implicit(_)) => {
                self.state = other;
                self.notice(Severity::Warning, "there is no transaction in progress");
            }
        }
    }

    /// Commits when the statement is done, out of reach of a cancel: TRUNCATE does so.
    pub fn commit_after_statement(&mut self) {
        self.commits_after_statement = true;
    }

    /// Has a configuration of workload management act once the statement is committed.
    pub fn reconfigure_after_commit(&mut self, config: wlm::Config) {
        self.new_configuration = Some(config);
    }

    /// What is to be done after the commit of a statement that asked for it; nothing if that failed.
    ///
    /// # Errors
    /// That of the commit; or if a configuration is refused that was fine before.
    pub fn after_commit(&mut self, committed: Result<()>) -> Result<()> {
        let config = self.new_configuration.take();
        committed?;
        let Some(config) = config else { return Ok(()) };
        let changed = self.engine.workload.reconfigure(config)?;
        if !changed.after_restart.is_empty() {
            let list: Vec<_> = changed.after_restart.iter().map(ToString::to_string).collect();
            let text = format!("takes effect after a restart of the server: {}", list.join(", "));
            self.notice(Severity::Notice, text);
        }
        Ok(())
    }

    /// Whether the statement that is done asked for it.
    pub fn takes_commit_after_statement(&mut self) -> bool {
        std::mem::take(&mut self.commits_after_statement)
    }

    /// Commits what the transaction did so far and goes on in a new one.
    pub async fn commit_and_go_on(&mut self) -> Result<()> {
        match std::mem::replace(&mut self.state, State::Idle) {
            State::Implicit(transaction) => {
                self.commit(*transaction).await?;
                self.state = State::Implicit(self.new_transaction());
                Ok(())
            }
            State::Block(transaction) => {
                let committed = self.commit(*transaction).await;
                self.end_settings(committed.is_ok());
                committed
            }
            other @ (State::Idle | State::Failed(_)) => {
                self.state = other;
                Ok(())
            }
        }
    }

    /// Commits a transaction of this session. Cursors WITH HOLD live on only if it succeeds.
    async fn commit(&mut self, transaction: Transaction) -> Result<()> {
        self.cursors.before_commit();
        let xid = transaction.xid();
        let committed = transaction.commit().await;
        let committed = committed.map_err(|error| self.told(error, xid));
        self.cursors.end_transaction(committed.is_ok());
        committed
    }

    /// Settings follow their transaction: all go back with a rollback, SET LOCAL always.
    fn end_settings(&mut self, committed: bool) {
        let local = std::mem::take(&mut self.local_settings);
        self.savepoint_settings.clear();
        if !committed {
            self.settings = self.settings_before.clone();
            return;
        }
        for name in local {
            self.settings.restore(&name, &self.settings_before);
        }
    }

    /// All that binding needs, as of now. Takes the transaction's snapshot.
    pub fn binding(&mut self) -> Result<Binding> {
        let transaction = self.transaction()?;
        let (snapshot, reads) = (transaction.view(), transaction.reads());
        Ok(self.binding_of(snapshot).noting(reads))
    }

    /// The same over a given snapshot.
    pub fn binding_of(&self, snapshot: Arc<Snapshot>) -> Binding {
        let values = sql::SessionValues {
            now: self.transaction_start,
            statement_start: (self.clock)(),
            current_user: self.user.clone(),
            session_user: self.user.clone(),
            database: DATABASE.to_owned(),
            search_path: self.existing_search_path(&snapshot),
            temporary_schema: self.temporary_schema(&snapshot),
            backend_pid: self.process_id,
            timezone: self.settings.time_zone().name().to_owned(),
            settings: self
                .settings
                .all()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        };
        Binding::new(Arc::clone(&self.engine), snapshot, values)
    }

    fn existing_search_path(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut path = self.settings.search_path(&self.user);
        path.retain(|schema| schema == PG_CATALOG || snapshot.schema(schema).is_some());
        path
    }

    /// The schemas of the search path that new objects may go into.
    fn creation_path(&self, snapshot: &Snapshot) -> impl Iterator<Item = String> + use<> {
        self.existing_search_path(snapshot).into_iter().filter(|schema| schema != PG_CATALOG)
    }

    /// The schema that a new object goes into.
    pub fn creation_schema(&mut self, name: &TableName) -> Result<String> {
        check_database(name)?;
        let snapshot = self.transaction()?.view();
        match &name.schema {
            Some(schema) if schema == PG_CATALOG || temporary::is_temporary(schema) => {
                Err(permission_denied(&name.to_string()))
            }
            Some(schema) if snapshot.schema(schema).is_some() => {
                self.check_creation(&snapshot, schema)?;
                Ok(schema.clone())
            }
            Some(schema) => Err(undefined_schema(schema)),
            None => {
                let first = self.creation_path(&snapshot).next().ok_or_else(|| {
                    Error::statement(
                        code::INVALID_SCHEMA_NAME,
                        "no schema has been selected to create in",
                    )
                })?;
                self.check_creation(&snapshot, &first)?;
                Ok(first)
            }
        }
    }

    /// The table that a name stands for in a snapshot.
    pub fn find_table(
        &self,
        snapshot: &Snapshot,
        name: &TableName,
    ) -> Result<Option<Arc<TableEntry>>> {
        check_database(name)?;
        let Some(name) = self.resolve_temporary(snapshot, name) else { return Ok(None) };
        let path = self.existing_search_path(snapshot);
        let temporary = self.temporary_schema(snapshot);
        if name.schema.is_none()
            && let Some(found) = temporary.and_then(|schema| snapshot.table(&schema, &name.name))
        {
            return Ok(Some(Arc::clone(found)));
        }
        let leads_to_system = match &name.schema {
            Some(schema) => schema == PG_CATALOG,
            // It comes first, unless the path names it elsewhere.
            None => !path.iter().any(|schema| schema == PG_CATALOG),
        };
        if leads_to_system && is_system_table(&name.name) {
            return Err(permission_denied(&name.name));
        }
        let found = match &name.schema {
            Some(schema) => snapshot.table(schema, &name.name),
            None => path.iter().find_map(|schema| snapshot.table(schema, &name.name)),
        };
        Ok(found.map(Arc::clone))
    }

    /// Takes the write lock of a table, alone, and gives it as the statement sees it.
    pub async fn lock_table(&mut self, name: &TableName) -> Result<Arc<TableEntry>> {
        self.lock_table_in(name, LockMode::Exclusive).await
    }

    /// Takes the lock of a table to add rows to it, and gives it as the statement sees it. Others may
    /// do the same meanwhile, unless the rows depend on those that are there (`reads_target`), or could
    /// move the table: one that is on all nodes while it is small.
    pub async fn lock_to_insert(
        &mut self,
        name: &TableName,
        reads_target: bool,
    ) -> Result<Arc<TableEntry>> {
        let peek = self.transaction()?.peek();
        let found = self.find_table(&peek, name)?;
        let may_move = found.is_some_and(|entry| {
            entry.is_automatic && entry.distribution == DistributionStyle::All
        });
        let alone = reads_target || may_move;
        self.lock_table_in(name, if alone { LockMode::Exclusive } else { LockMode::Insert }).await
    }

    /// Takes a write lock of a table and gives it as the statement sees it.
    pub async fn lock_table_in(
        &mut self,
        name: &TableName,
        mode: LockMode,
    ) -> Result<Arc<TableEntry>> {
        let entry = self.lock_if_exists(name, mode).await?;
        entry.ok_or_else(|| undefined_table(name))
    }

    /// As [`Session::lock_table_in`]; `None` if there is no table of that name.
    pub async fn lock_if_exists(
        &mut self,
        name: &TableName,
        mode: LockMode,
    ) -> Result<Option<Arc<TableEntry>>> {
        loop {
            let peek = self.transaction()?.peek();
            let Some(entry) = self.find_table(&peek, name)? else { return Ok(None) };
            self.check_owner(&entry.owner, "relation", &entry.name)?;
            let transaction = self.transaction()?;
            let is_fresh = transaction.is_fresh();
            let locked = transaction.lock(entry.id, mode).await;
            if is_fresh {
                // Whoever had it before may have dropped it, or given its name to another.
                let view = self.transaction()?.view();
                let found = self.find_table(&view, name)?;
                if found.is_none_or(|found| found.id != entry.id) {
                    self.transaction()?.forget_snapshot();
                    continue;
                }
            }
            locked?;
            let view = self.transaction()?.view();
            let found = view.table_by_id(entry.id).map(Arc::clone);
            // Nor need it be the user's any more.
            let latest = self.engine.transactions.snapshot();
            let owner = latest.table_by_id(entry.id).or(found.as_ref()).map(|table| &table.owner);
            if let Some(owner) = owner {
                self.check_owner(owner, "relation", &entry.name)?;
            }
            return Ok(found);
        }
    }

    /// Keeps a statement under a name.
    pub fn prepare_named(&mut self, name: &str, statement: NamedStatement) -> Result<()> {
        if self.named.contains_key(name) {
            let message = format!("prepared statement \"{name}\" already exists");
            return Err(Error::statement("42P05", message));
        }
        self.named.insert(name.to_owned(), statement);
        Ok(())
    }

    /// The statement of that name.
    pub fn named_statement(&self, name: &str) -> Result<NamedStatement> {
        self.named.get(name).cloned().ok_or_else(|| {
            let message = format!("prepared statement \"{name}\" does not exist");
            Error::statement(code::INVALID_SQL_STATEMENT_NAME, message)
        })
    }

    /// DEALLOCATE; without a name ALL. Names of the wire's own statements go too.
    pub fn deallocate(&mut self, name: Option<&str>) {
        match name {
            Some(name) => {
                self.named.remove(name);
                self.deallocations.push(Deallocation::Statement(name.to_owned()));
            }
            None => {
                self.named.clear();
                self.deallocations.push(Deallocation::AllStatements);
            }
        }
    }
}

/// A statement would write or change a system table.
fn permission_denied(name: &str) -> Error {
    let message = format!("permission denied: \"{name}\" is a system catalog");
    Error::statement(code::INSUFFICIENT_PRIVILEGE, message)
}

/// `relation "x" does not exist`
pub fn undefined_table(name: &TableName) -> Error {
    Error::statement(code::UNDEFINED_TABLE, format!("relation \"{name}\" does not exist"))
}

fn check_database(name: &TableName) -> Result<()> {
    match &name.database {
        Some(database) if database != DATABASE => {
            let message = format!("cross-database reference \"{name}\" is not supported");
            Err(Error::statement(code::FEATURE_NOT_SUPPORTED, message))
        }
        _ => Ok(()),
    }
}

fn failed_block() -> Error {
    Error::statement(
        code::IN_FAILED_SQL_TRANSACTION,
        "current transaction is aborted, commands ignored until end of transaction block",
    )
}
